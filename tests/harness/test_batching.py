"""The policy host over real sockets, and the rule by which it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import zmq
from extra_policies import Faulty, Remembering

from envs.spec import EpisodeId, Observation
from harness import wire
from harness.batching import PolicyHost, Scheduler, Session
from harness.plan import context_of
from harness.remote import Link, RemotePolicy
from policies.base import ActReply, ActRequest, EpisodeStart, OutOfMemory, Policy, PolicyError
from suites.protocol import load_suite

EPISODES = [EpisodeId("point", "reach", trial) for trial in range(6)]


def start(episode: EpisodeId) -> EpisodeStart:
    return EpisodeStart(episode, 0, "reach goal 1")


def request(episode: EpisodeId, call: int) -> ActRequest:
    picture = np.full((32, 32, 3), 10 * call + episode.trial, np.uint8)
    state = np.full(3, 0.1 * call + episode.trial, np.float32)
    return ActRequest(episode, call, Observation({"top": picture}, state, "reach goal 1", 4 * call))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    """Serves policies over private sockets, and stops what it served."""
    hosts: list[PolicyHost] = []

    def begin(
        policy: Policy,
        address: str = "",
        *,
        encrypt: bool = False,
        timeout_s: float = 20,
        start_wait_s: float | None = None,
    ) -> Link:
        hosts.append(PolicyHost(policy, max_batch=8, start_wait_s=start_wait_s))
        return hosts[-1].serve_in_thread(
            address or f"ipc://{tmp_path}/{len(hosts)}", timeout_s=timeout_s, encrypt=encrypt
        )

    begin.hosts = hosts  # type: ignore[attr-defined]
    yield begin
    for host in hosts:
        host.stop()


def remembering(**options: float) -> Remembering:
    return Remembering(context_of(load_suite("point")), **options)  # type: ignore[arg-type]


def play(policy: Policy, episode: EpisodeId, calls: int = 12) -> list[np.ndarray]:
    policy.start([start(episode)])
    answers = [policy.act([request(episode, call)])[0] for call in range(calls)]
    policy.end([episode])
    assert [(reply.episode, reply.step) for reply in answers] == [(episode, 4 * call) for call in range(calls)]
    return [reply.actions for reply in answers]


def test_a_remote_policy_answers_as_the_policy_itself(serve) -> None:
    link = serve(remembering())
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    for near, far in zip(play(remembering(), EPISODES[0]), play(remote, EPISODES[0]), strict=True):
        np.testing.assert_array_equal(near, far)
    assert serve.hosts[0].policy.live() == 0
    remote.close()


def test_many_workers_at_once_get_what_each_gets_alone(serve) -> None:
    link = serve(remembering(sleep=0.002))
    alone = {episode: play(remembering(), episode) for episode in EPISODES}
    found: dict[EpisodeId, list[np.ndarray]] = {}

    def work(episode: EpisodeId) -> None:
        remote = RemotePolicy(remembering().spec, link, name=f"worker-{episode.trial}")
        found[episode] = play(remote, episode)
        remote.close()

    threads = [threading.Thread(target=work, args=(episode,)) for episode in EPISODES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for episode in EPISODES:
        np.testing.assert_array_equal(np.stack(found[episode]), np.stack(alone[episode]))
    assert max(serve.hosts[0].batches) > 1, "nothing was ever batched: this test would show nothing"
    assert serve.hosts[0].policy.live() == 0


def test_an_error_of_the_policy_reaches_the_worker_and_the_host_lives_on(serve) -> None:
    link = serve(Faulty(context_of(load_suite("point")), how="raise", trial=1))
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    with pytest.raises(PolicyError, match="wrong size"):
        play(remote, EPISODES[1])
    remote.end([EPISODES[1]])
    play(remote, EPISODES[2])
    assert serve.hosts[0].policy.live() == 0
    remote.close()


def test_an_episode_the_host_does_not_know_is_an_error(serve) -> None:
    remote = RemotePolicy(remembering().spec, serve(remembering()), name="worker-1")
    with pytest.raises(PolicyError, match="never started, or its state was lost"):
        remote.act([request(EPISODES[0], 3)])
    remote.close()


def test_a_lost_host_is_final_and_another_at_the_same_address_is_not_taken_for_it(serve, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/same"
    link = serve(remembering(), address)
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    remote.start([start(EPISODES[0])])
    remote.act([request(EPISODES[0], 0)])
    serve.hosts[0].stop()
    socket = tmp_path / "same"
    for _ in range(500):  # the old socket's file goes away in the background
        if not socket.exists():
            break
        time.sleep(0.01)
    serve(remembering(), address)
    with pytest.raises(PolicyError, match="connection to the policy host was lost"):
        remote.act([request(EPISODES[0], 1)])
    with pytest.raises(PolicyError, match="connection to the policy host was lost"):
        remote.start([start(EPISODES[1])])
    remote.close()
    late = RemotePolicy(remembering().spec, link, name="worker-1")
    with pytest.raises(PolicyError, match="restarted"):
        late.act([request(EPISODES[0], 1)])
    late.close()


def test_a_host_that_does_not_answer_in_time_is_given_up(serve) -> None:
    link = serve(remembering(sleep=2), timeout_s=0.2)
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    remote.start([start(EPISODES[0])])
    with pytest.raises(PolicyError, match=r"did not answer 'act' within 0\.2 s"):
        remote.act([request(EPISODES[0], 0)])
    remote.close()


def test_the_episodes_of_a_dead_worker_are_freed(serve) -> None:
    link = serve(remembering())
    host = serve.hosts[0]
    dead = RemotePolicy(remembering().spec, link, name="worker-1")
    other = RemotePolicy(remembering().spec, link, name="worker-11")
    dead.start([start(EPISODES[0]), start(EPISODES[1])])
    other.start([start(EPISODES[2])])
    host.forget("worker-1")
    deadline = time.monotonic() + 10
    while host.policy.live() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert host.policy.live() == 1
    other.act([request(EPISODES[2], 0)])
    dead.close()
    other.close()


def test_across_nodes_only_the_holder_of_the_keys_gets_in(serve) -> None:
    link = serve(remembering(), "tcp://127.0.0.1:*", encrypt=True)
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    play(remote, EPISODES[0], calls=2)
    remote.close()
    public, secret = (key.decode() for key in zmq.curve_keypair())
    no_keys = Link(link.address, link.incarnation, 1.0)
    wrong_keys = Link(link.address, link.incarnation, 1.0, link.server_public, public, secret)
    for stranger in (no_keys, wrong_keys):
        foreign = RemotePolicy(remembering().spec, stranger, name="worker-2")
        with pytest.raises(PolicyError):
            foreign.start([start(EPISODES[1])])
        foreign.close()
    assert serve.hosts[0].policy.live() == 0


@pytest.mark.parametrize("junk", [[b""], [b"\xc1"], [wire.pack({"op": "act"})[0]], [b"\x00" * 50, b"x"]])
def test_a_malformed_message_is_answered_with_an_error_and_harms_nobody(serve, junk: list[bytes]) -> None:
    link = serve(remembering())
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(link.address)
    socket.send_multipart(junk)
    assert socket.poll(5000)
    assert "error" in wire.unpack(socket.recv_multipart())
    socket.close()
    remote = RemotePolicy(remembering().spec, link, name="worker-1")
    play(remote, EPISODES[0], calls=2)
    remote.close()


class Cramped(Remembering):
    """Room for `room` episodes in one call; what does not fit is refused before any memory is written."""

    room = 1

    def act(self, requests: list[ActRequest]) -> list[ActReply]:  # type: ignore[override]
        time.sleep(0.02)
        if len(requests) > self.room:
            raise OutOfMemory(f"{len(requests)} do not fit")
        return super().act(requests)


def test_a_batch_that_does_not_fit_into_memory_is_split_and_nobody_notices(serve) -> None:
    policy = Cramped(context_of(load_suite("point")))
    link = serve(policy)
    alone = {episode: play(remembering(), episode) for episode in EPISODES}
    found: dict[EpisodeId, list[np.ndarray]] = {}

    def work(episode: EpisodeId) -> None:
        remote = RemotePolicy(remembering().spec, link, name=f"worker-{episode.trial}")
        found[episode] = play(remote, episode)
        remote.close()

    threads = [threading.Thread(target=work, args=(episode,)) for episode in EPISODES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for episode in EPISODES:
        np.testing.assert_array_equal(np.stack(found[episode]), np.stack(alone[episode]))
    host = serve.hosts[0]
    assert max(host.batches) > 1, "nothing was ever split: this test would show nothing"
    assert host._scheduler.max_batch == 1, "the next batches are as small as what did fit"


def test_a_request_that_does_not_fit_alone_is_an_error(serve) -> None:
    policy = Cramped(context_of(load_suite("point")))
    policy.room = 0
    remote = RemotePolicy(remembering().spec, serve(policy), name="worker-1")
    with pytest.raises(PolicyError, match="1 do not fit"):
        play(remote, EPISODES[0])
    remote.end([EPISODES[0]])
    policy.room = 1
    play(remote, EPISODES[0], calls=2)
    remote.close()


# ---------------------------------------------------------------------- more episodes than slots


def few_slots(slots: int) -> Remembering:
    policy = remembering()
    policy.spec = replace(policy.spec, slots=slots)
    return policy


def until(condition) -> None:
    """Wait for the serving thread to come to this."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_more_episodes_than_slots_wait_in_order_and_none_is_evicted(serve) -> None:
    policy = few_slots(2)
    link, alone = serve(policy), {episode: play(remembering(), episode) for episode in EPISODES}
    host, begun, found = serve.hosts[0], list[int](), dict[EpisodeId, list[np.ndarray]]()
    remotes = [RemotePolicy(policy.spec, link, name=f"worker-{episode.trial}") for episode in EPISODES]
    for remote, episode in zip(remotes[:2], EPISODES[:2], strict=True):
        remote.start([start(episode)])

    def work(remote: RemotePolicy, episode: EpisodeId) -> None:
        remote.start([start(episode)])
        begun.append(episode.trial)
        found[episode] = [remote.act([request(episode, call)])[0].actions for call in range(12)]
        assert policy.live() <= 2
        remote.end([episode])

    threads = []
    for place, (remote, episode) in enumerate(zip(remotes[2:], EPISODES[2:], strict=True)):
        threads.append(threading.Thread(target=work, args=(remote, episode)))
        threads[-1].start()
        until(lambda place=place: host.stats()["waiting"] == place + 1)
    for remote, episode in zip(remotes[:2], EPISODES[:2], strict=True):  # those that live go on undisturbed
        found[episode] = [remote.act([request(episode, call)])[0].actions for call in range(12)]
    assert host.stats()["waiting"] == 4
    remotes[0].end([EPISODES[0]])
    until(lambda: host.stats()["waiting"] == 0)
    remotes[1].end([EPISODES[1]])
    for thread in threads:
        thread.join(30)
    assert begun == [2, 3, 4, 5]
    for episode in EPISODES:
        np.testing.assert_array_equal(np.stack(found[episode]), np.stack(alone[episode]))
    assert (policy.live(), len(host._owners), host.stats()["waiting"]) == (0, 0, 0)
    for remote in remotes:
        remote.close()


def test_a_start_that_waits_too_long_is_told_so_and_takes_no_slot(serve) -> None:
    policy = few_slots(1)
    link = serve(policy, start_wait_s=0.2)
    one, two = (RemotePolicy(policy.spec, link, name=f"worker-{n}") for n in (1, 2))
    one.start([start(EPISODES[0])])
    with pytest.raises(PolicyError, match=r"no slot came free for .* within 0\.2 s: all 1 .* raise policy\.slots"):
        two.start([start(EPISODES[1])])
    one.act([request(EPISODES[0], 0)])
    one.end([EPISODES[0]])
    two.start([start(EPISODES[1])])
    two.end([EPISODES[1]])
    assert policy.live() == 0
    one.close()
    two.close()


def test_an_episode_that_is_alive_already_does_not_wait_for_a_slot(serve) -> None:
    policy = few_slots(1)
    remote = RemotePolicy(policy.spec, serve(policy), name="worker-1")
    remote.start([start(EPISODES[0])])
    with pytest.raises(PolicyError, match="started twice"):
        remote.start([start(EPISODES[0])])
    remote.close()


def test_a_worker_that_dies_while_it_waits_leaves_its_place_to_the_next(serve) -> None:
    policy = few_slots(1)
    link = serve(policy)
    host = serve.hosts[0]
    holder, dead, patient = (RemotePolicy(policy.spec, link, name=f"worker-{n}") for n in (1, 2, 3))
    holder.start([start(EPISODES[0])])
    dead._socket.send_multipart(
        wire.pack(
            {"host": link.incarnation, "number": 0, "op": "start", "start": wire.start_to_wire(start(EPISODES[1]))}
        )
    )
    until(lambda: host.stats()["waiting"] == 1)
    dead.close()
    begun = threading.Thread(target=lambda: patient.start([start(EPISODES[2])]))
    begun.start()
    until(lambda: host.stats()["waiting"] == 2)
    holder.end([EPISODES[0]])
    begun.join(10)
    assert not begun.is_alive()
    assert set(host._owners) == {EPISODES[2]}
    host.forget("worker-3")
    until(lambda: policy.live() == 0)
    holder.close()
    patient.close()


def test_the_host_says_what_memory_an_episode_takes(serve) -> None:
    policy = remembering()
    policy.memory_per_episode = lambda: 4096  # type: ignore[method-assign]
    serve(policy)
    assert serve.hosts[0].stats()["memory_per_episode"] == 4096


# ---------------------------------------------------------------------- when a batch is run


def lock_step(sessions: dict[EpisodeId, float], call_s: float, rounds: int = 60) -> list[int]:
    """Batch sizes when every session asks again `sessions[episode]` seconds after its reply; simulated time."""
    scheduler = Scheduler(max_batch=16)
    now, sizes = 0.0, []
    due = dict.fromkeys(sessions, 0.0)
    waiting: list[EpisodeId] = []
    for episode in sessions:
        scheduler.started(episode)
    for _ in range(rounds):
        while True:
            for episode in [e for e, at in due.items() if at <= now]:
                scheduler.arrived(episode, due.pop(episode))
                waiting.append(episode)
            hold = scheduler.hold(now) if waiting else 1.0
            if hold <= 0:
                break
            now = min([now + hold, *due.values()]) if due else now + hold
        sizes.append(len(waiting))
        now += call_s
        scheduler.served(waiting, now, call_s)
        due.update({episode: now + sessions[episode] for episode in waiting})
        waiting = []
    return sizes


def test_lock_step_sessions_fill_every_batch() -> None:
    sizes = lock_step(dict.fromkeys(EPISODES, 0.015), call_s=0.020)
    assert set(sizes[5:]) == {len(EPISODES)}


@pytest.mark.parametrize(("away", "waited_for"), [(0.95, True), (1.05, True), (1.3, False)])
def test_who_just_misses_the_others_call_is_waited_for(away: float, waited_for: bool) -> None:
    """Else two groups that take turns would never meet again."""
    scheduler = Scheduler(max_batch=16, call_s=1.0)
    first, second = EPISODES[:2]
    scheduler.sessions = {first: Session(waiting_since=10.0), second: Session(replied_at=10.0, away=away)}
    assert (scheduler.hold(10.0) > 0) == waited_for


def test_one_slow_session_does_not_hold_the_others() -> None:
    sessions = dict.fromkeys(EPISODES, 0.015) | {EPISODES[0]: 0.5}
    sizes = lock_step(sessions, call_s=0.020)
    quick = sum(size >= len(EPISODES) - 1 for size in sizes[5:])
    assert quick / len(sizes[5:]) > 0.9


def two_that_compute(away: float) -> Scheduler:
    """Two sessions, a call of 10 ms; the first waits, the second is due a moment later."""
    scheduler = Scheduler(max_batch=16, call_s=0.010)
    first, second = EPISODES[:2]
    scheduler.sessions = {
        first: Session(waiting_since=1.0, replied_at=1.0 - away, away=away),
        second: Session(replied_at=1.001 - away, away=away),
    }
    return scheduler


@pytest.mark.parametrize(("away", "waited_for"), [(0.010, True), (0.012, True), (0.013, False), (0.100, False)])
def test_nobody_is_waited_for_where_the_host_has_time_for_each_alone(away: float, waited_for: bool) -> None:
    """Two calls of 10 ms in 20 ms, in 22 ms: it has none to spare; in 23 ms it has."""
    assert (two_that_compute(away).hold(1.0) > 0) == waited_for


def test_a_session_of_which_nothing_is_known_counts_as_always_asking() -> None:
    scheduler = two_that_compute(0.100)
    assert scheduler.hold(1.0) == 0.0
    scheduler.started(EPISODES[2])
    assert scheduler.hold(1.0) > 0


def test_a_policy_that_costs_nothing_is_never_waited_for() -> None:
    scheduler = Scheduler(max_batch=16)
    for episode in EPISODES:
        scheduler.started(episode)
    for _ in range(5):
        scheduler.arrived(EPISODES[0], 1.0)
        assert scheduler.hold(1.0) == 0.0
        scheduler.served([EPISODES[0]], 1.0, 0.0)


def test_a_session_that_ends_is_not_waited_for() -> None:
    scheduler = Scheduler(max_batch=16, call_s=1.0)
    for episode in EPISODES[:2]:
        scheduler.started(episode)
        scheduler.arrived(episode, 0.0)
    scheduler.served(EPISODES[:2], 0.0, 1.0)
    for episode in EPISODES[:2]:
        scheduler.arrived(episode, 0.5)
    scheduler.served(EPISODES[:2], 1.5, 1.0)
    scheduler.arrived(EPISODES[0], 1.6)
    assert scheduler.hold(1.6) > 0
    scheduler.ended(EPISODES[1])
    assert scheduler.hold(1.6) == 0.0


def test_thousands_of_episodes_leave_nothing_behind(serve) -> None:
    """State, sessions and owners are back to zero, and the process has not grown."""
    host_policy = remembering()
    remote = RemotePolicy(host_policy.spec, serve(host_policy), name="worker-1")
    host = serve.hosts[0]

    def play_many(first: int, count: int) -> None:
        for trial in range(first, first + count):
            episode = EpisodeId("point", "reach", trial)
            remote.start([start(episode)])
            remote.act([replace(request(EPISODES[0], 0), episode=episode)])
            remote.end([episode])

    play_many(0, 500)
    before = psutil.Process().memory_info().rss
    play_many(500, 3000)
    grown = psutil.Process().memory_info().rss - before
    assert host.policy.live() == 0
    assert (len(host._owners), len(host._scheduler.sessions), len(host._queue)) == (0, 0, 0)
    assert grown < 20 * 2**20, f"grown by {grown / 2**20:.1f} MiB over 3000 episodes"
    remote.close()
