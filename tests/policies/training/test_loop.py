"""The loop: what a kill, a signal, a full disk and another configuration leave behind."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from rich.console import Console

from harness.training import train_command
from policies.base import PolicyError
from policies.training.loop import no_denormals
from policies.training.options import TrainingError
from policies.training.state import UNFINISHED, last_state
from tests.policies.training.conftest import ENVIRONMENT, ended, losses, started, table, until_row, weights


def trained(folder: Path, *words: str) -> list[float]:
    """Train in this process, and give the losses."""
    console = Console(file=sys.stdout, width=160)
    assert train_command(["recipe=finder", f"train.dir={folder}", *words], console) == 0
    return losses(folder)


def same_weights(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    words = ("train.updates=24", "train.schedule=cosine", "train.warmup=4", "train.ema=0.9", "train.state_every=5")
    trained(tmp_path / "whole", *words)
    with started(tmp_path / "killed", *words, "slow=0.1"):
        until_row(tmp_path / "killed", 13)
    kept = last_state(tmp_path / "killed")
    assert kept is not None
    assert 10 <= kept.update < 24
    with (tmp_path / "killed" / "log.csv").open("a") as torn:
        torn.write("19,0.1")
    again = ended(tmp_path / "killed", *words, "slow=0.1")
    assert again.returncode == 0, again.stderr
    assert f"going on after update {kept.update}" in again.stdout
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert same_weights(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_update_end_keeps_the_state_and_says_how_to_resume(tmp_path: Path, number: int) -> None:
    words = ("train.updates=30", "train.state_every=0", "slow=0.1")
    with started(tmp_path / "it", *words) as process:
        until_row(tmp_path / "it", 3)
        process.send_signal(number)
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    done = len(table(tmp_path / "it"))
    assert done < 30
    assert f"stopped after update {done}" in said
    assert f"memvla train recipe=finder train.dir={tmp_path / 'it'}" in said
    kept = last_state(tmp_path / "it")
    assert kept is not None
    assert kept.update == done
    assert not (tmp_path / "it" / "checkpoint").exists()


def test_a_resume_with_another_configuration_is_refused_and_lists_the_differences(tmp_path: Path) -> None:
    trained(tmp_path)
    before = table(tmp_path)
    with pytest.raises(TrainingError) as refused:
        trained(tmp_path, "train.lr=0.1", "batch=16", "train.log_every=3")
    said = str(refused.value)
    assert "batch: 8 there, 16 here" in said
    assert "train.lr: 0.003 there, 0.1 here" in said
    assert "log_every:" not in said
    assert "A resume may change: train.updates" in said
    assert table(tmp_path) == before


def test_more_updates_of_a_constant_schedule_go_on_as_if_asked_for_at_once(tmp_path: Path) -> None:
    trained(tmp_path / "twice")
    trained(tmp_path / "twice", "train.updates=20", "train.accumulate=1", "train.log_every=1")
    trained(tmp_path / "once", "train.updates=20")
    assert table(tmp_path / "twice") == table(tmp_path / "once")
    assert same_weights(tmp_path / "twice", tmp_path / "once")


def test_a_constant_rate_may_fall_at_last_until_it_has_begun_to(tmp_path: Path) -> None:
    trained(tmp_path / "twice")
    trained(tmp_path / "twice", "train.updates=20", "train.cooldown=0.4")
    trained(tmp_path / "once", "train.updates=20", "train.cooldown=0.4")
    assert table(tmp_path / "twice") == table(tmp_path / "once")
    assert same_weights(tmp_path / "twice", tmp_path / "once")
    with pytest.raises(TrainingError, match=r"train\.updates: 20 there, 24 here"):
        trained(tmp_path / "twice", "train.updates=24", "train.cooldown=0.1")


def test_another_length_of_a_cosine_schedule_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, "train.schedule=cosine")
    with pytest.raises(TrainingError, match=r"train\.updates: 12 there, 13 here"):
        trained(tmp_path, "train.schedule=cosine", "train.updates=13")


def test_a_finished_training_changes_nothing_when_it_is_asked_for_again(tmp_path: Path) -> None:
    trained(tmp_path)
    before, rows = weights(tmp_path), table(tmp_path)
    trained(tmp_path)
    assert table(tmp_path) == rows
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path).items())


FULL = """
    import resource, signal, sys
    from harness.cli import main
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
    sys.argv = ["memvla", "train", *sys.argv[2:]]
    main()
"""


def test_a_full_disk_in_a_checkpoint_is_named_and_the_last_good_state_stays(tmp_path: Path) -> None:
    trained(tmp_path / "whole", "train.updates=24", "width=32")
    trained(tmp_path / "full", "width=32")
    words = ["recipe=finder", f"train.dir={tmp_path / 'full'}", "train.updates=24", "width=32"]
    script = [sys.executable, "-c", textwrap.dedent(FULL), "60000", *words]
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Is the disk full?" in done.stderr
    assert "Traceback" not in done.stderr
    kept = last_state(tmp_path / "full")
    assert kept is not None
    assert kept.update == 12
    assert not list((tmp_path / "full").rglob(f"*{UNFINISHED}"))
    trained(tmp_path / "full", "train.updates=24", "width=32")
    assert table(tmp_path / "full") == table(tmp_path / "whole")
    assert same_weights(tmp_path / "full", tmp_path / "whole")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_what_a_kill_left_half_written_is_never_read(tmp_path: Path) -> None:
    trained(tmp_path / "it")
    half = tmp_path / "it" / "state" / f"00000020{UNFINISHED}"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half of it")
    trained(tmp_path / "it", "train.updates=20")
    trained(tmp_path / "whole", "train.updates=20")
    assert table(tmp_path / "it") == table(tmp_path / "whole")


def test_a_broken_state_is_named_with_the_cure(tmp_path: Path) -> None:
    trained(tmp_path)
    kept = last_state(tmp_path)
    assert kept is not None
    (kept.folder / "optimiser.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"optimiser\.safetensors cannot be read.*remove"):
        trained(tmp_path, "train.updates=20")


def test_a_loss_that_is_no_number_stops_at_once_and_keeps_the_state_before(tmp_path: Path) -> None:
    done = ended(tmp_path, "broken_at=7")
    assert done.returncode == 1
    assert "the loss of update 8 is nan" in done.stderr
    assert "Traceback" not in done.stderr
    kept = last_state(tmp_path)
    assert kept is not None
    assert kept.update == 5
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(kept.folder).values())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


def test_parts_one_after_another_make_the_same_update(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    assert trained(tmp_path / "parts", "train.accumulate=4") == pytest.approx(whole, abs=1e-5)
    assert trained(tmp_path / "again", "train.activations=blocks") == pytest.approx(whole, abs=1e-6)
    with pytest.raises(PolicyError, match="cannot be parted in 3"):
        trained(tmp_path / "uneven", "train.accumulate=3")


def test_batches_prepared_ahead_by_threads_are_the_same_in_the_same_order(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", "train.draw_ahead=0")
    assert trained(tmp_path / "ahead", "train.draw_ahead=4", "train.draw_threads=3") == plain


def test_training_learns(tmp_path: Path) -> None:
    found = trained(tmp_path, "train.updates=300", "train.state_every=0")
    assert sum(found[-20:]) < 0.3 * sum(found[:20])


def test_checkpoints_on_the_way_hold_the_weights_of_their_update(tmp_path: Path) -> None:
    trained(tmp_path / "it", "train.checkpoint_every=6")
    trained(tmp_path / "short", "train.updates=6")
    folder = tmp_path / "it" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["update-00000006"]
    from safetensors.torch import load_file

    early = load_file(folder / "update-00000006" / "finder.safetensors")
    assert all(torch.equal(early[name], tensor) for name, tensor in weights(tmp_path / "short").items())


def test_the_average_is_what_checkpoints_hold(tmp_path: Path) -> None:
    """Against a plain recomputation from the weights after each update."""
    after: list[dict[str, torch.Tensor]] = []
    for updates in range(1, 5):
        trained(tmp_path / "plain", f"train.updates={updates}")
        after.append(weights(tmp_path / "plain"))
    trained(tmp_path / "averaged", "train.updates=4", "train.ema=0.2")
    from extra_stages import FinderStage

    average = {name: tensor.clone() for name, tensor in FinderStage().module.state_dict().items()}
    for update, now in enumerate(after):
        decay = min(0.2, (1 + update) / (10 + update))
        average = {name: decay * average[name] + (1 - decay) * tensor for name, tensor in now.items()}
    for name, tensor in weights(tmp_path / "averaged").items():
        torch.testing.assert_close(tensor, average[name], atol=1e-6, rtol=1e-5)


def test_the_state_says_what_was_asked_for(tmp_path: Path) -> None:
    trained(tmp_path, "batch=16")
    kept = last_state(tmp_path)
    assert kept is not None
    config = json.loads((kept.folder / "state.json").read_text())["config"]
    assert config["options"]["batch"] == 16
    assert config["train"]["precision"] == "float32"


def test_fewer_updates_than_there_are_already_are_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(TrainingError, match=r"holds 12 updates already, train\.updates=6 are fewer"):
        trained(tmp_path, "train.updates=6")


def test_a_checkpoint_that_a_kill_prevented_is_written_at_the_resume(tmp_path: Path) -> None:
    """As if the kill had come between the state of update 6 and its checkpoint."""
    trained(tmp_path, "train.updates=6", "train.state_every=6")
    trained(tmp_path, "train.checkpoint_every=6")
    assert (tmp_path / "checkpoints" / "update-00000006" / "finder.safetensors").exists()


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot count them as zero")
def test_denormal_numbers_are_zero_while_a_training_runs_and_not_afterwards() -> None:
    tiny = torch.full((1,), 1e-30)
    with no_denormals():
        assert float(tiny * 1e-10) == 0
    assert float(tiny * 1e-10) > 0
