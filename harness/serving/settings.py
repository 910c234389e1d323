"""What `memvla serve` can be told: a dataclass schema, unknown keys refused.

memvla serve policy=memoryvla suite=lab_memory policy.checkpoint=DIR serve.port=8000
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf

from harness.cluster import PolicyConfig
from harness.config import POLICY_WORDS, ConfigError, load_policy_file, policy_files
from harness.robot import at_station, station_of
from suites.protocol import Suite, load_suite

PROCESS_FRAME = ("memoryvla", "dexbotic")
ROOT_SOCKETS = ("openpi", "vla_eval")
REACTIONS = ("error", "warn")
TOKEN_VARIABLE = "MEMVLA_SERVE_TOKEN"


@dataclass
class ServeSettings:
    """How the server serves, apart from its policy."""

    host: str = "127.0.0.1"
    """Address to listen at. Anything but loopback needs a token."""
    port: int = 8000
    """0: a free one, printed at the start."""
    token: str = ""
    """What clients must send (Authorization: Bearer TOKEN). Better given in the variable MEMVLA_SERVE_TOKEN."""
    process_frame: str = "memoryvla"
    """Whose reply `/process_frame` gives: memoryvla or dexbotic. `/memoryvla/process_frame` and
    `/dexbotic/process_frame` are always there."""
    root_socket: str = "openpi"
    """What a WebSocket at `/` speaks: openpi or vla_eval. `/openpi` and `/vla_eval` are always there."""
    window: int | None = None
    """Actions in a reply of the compatible HTTP endpoints. None: the first of the chunk for MemoryVLA and CogACT, the
    whole chunk for Dexbotic, as the originals do."""
    crops: bool = False
    """Crop pictures as the official MemoryVLA server does (square, 224, middle 90 % of the area), before the policy's
    own preparation. Leave off where the policy does so itself (policy.vision.centre_crop)."""
    missing_start: str = "error"
    """A frame of an episode that was never begun: `error`, or `warn` (log, and begin one with an empty memory)."""
    text_change: str = "warn"
    """Another instruction inside an episode, where the protocol does not announce it: `warn` (log, keep the memory) or
    `error`. A client that forgets to begin its episodes looks like this."""
    connection_is_episode: bool = False
    """openpi: every connection is one episode, for clients that open one for each and cannot send `reset`."""
    cameras: str = ""
    """openpi, vla-eval: which picture is which camera, as THEIRS:OURS,THEIRS:OURS."""
    seed: int = 0
    """Of the sampling noise, where a client names none."""
    max_batch: int = 16
    """Most sessions in one policy call."""
    sessions: int = 256
    """Most live sessions, where the policy sets no number of slots itself."""
    waiting: int = 64
    """Most sessions that wait for a slot; the next one gets 503 at once."""
    wait_s: float = 30.0
    """Seconds a session may wait for a slot before it gets 503."""
    idle_s: float = 120.0
    """Seconds of silence after which a session ends and its memory is freed."""
    call_s: float = 300.0
    """Seconds after which a policy call counts as hung."""
    max_request_mb: float = 16.0
    """Largest request or WebSocket message."""
    max_pixels: int = 4_000_000
    """Largest picture, in pixels."""
    rate: float = 500.0
    """Requests a second that one client address may send (0: any number); twice as many in a burst."""


@dataclass(frozen=True)
class ServeConfig:
    """A composed configuration: which policy, built for which suite, served how."""

    suite: Suite
    policy: PolicyConfig
    serve: ServeSettings


def compose_serve(words: Sequence[str]) -> ServeConfig:
    """Compose `key=value` words; those of a `station` go to the suite. Raises ConfigError or SuiteError."""
    station, words = station_of(words)
    groups: dict[str, list[str]] = {"policy": [], "serve": []}
    named: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        group, dot, rest = key.partition(".")
        if not sign:
            raise ConfigError(f"{word!r} is not of the form key=value; see memvla serve --help")
        if key in ("policy", "suite"):
            named[key] = value
        elif dot and group in groups:
            groups[group].append(f"{rest}={value}")
        else:
            known = ["policy", "suite", *(f"serve.{f.name}" for f in fields(ServeSettings))]
            raise ConfigError(f"unknown key {key!r}; {_hint(key, known)}, or an option of the policy (policy.NAME)")
    for key, example in (("policy", "memoryvla"), ("suite", "lab_memory")):
        if not named.get(key):
            raise ConfigError(
                f"name a {key}: {key}=NAME, for example {key}={example}; "
                + ("see `memvla policies`" if key == "policy" else "it says which cameras and actions the policy has")
            )
    serve = _merged(OmegaConf.structured(ServeSettings), groups["serve"], "serve")
    assert isinstance(serve, ServeSettings)
    _check(serve)
    suite = load_suite(named["suite"])
    if station:
        suite = at_station(suite, station)
    return ServeConfig(suite, _policy(named["policy"], groups["policy"]), serve)


def token_of(settings: ServeSettings) -> str:
    """The token clients must send; "" if none is asked for. Raises ConfigError where one is needed."""
    token = settings.token or os.environ.get(TOKEN_VARIABLE, "")
    if not token and not is_loopback(settings.host):
        raise ConfigError(
            f"serve.host={settings.host} can be reached from other machines, so clients must show a token: set "
            f"{TOKEN_VARIABLE} (or serve.token), or serve.host=127.0.0.1"
        )
    if token and len(token) < 16:
        raise ConfigError(
            f"the token has {len(token)} characters; take 16 or more, for example from `openssl rand -hex 16`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _policy(name: str, words: list[str]) -> PolicyConfig:
    files = policy_files()
    if name not in files:
        raise ConfigError(f"unknown policy {name!r}; {_hint(name, list(files))}")
    defaults = OmegaConf.create(load_policy_file(files[name]))
    OmegaConf.set_struct(defaults, True)
    made = _merged(defaults, words, "policy")
    options = {key: value for key, value in made.items() if key not in POLICY_WORDS}
    return PolicyConfig(str(made["name"]), str(made["target"]), options)


def _merged(defaults: Any, words: list[str], group: str) -> Any:
    """`defaults` with the words' values. Raises ConfigError for an unknown key or a value of the wrong type."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(defaults, OmegaConf.from_dotlist(words)))
    except Exception as error:  # OmegaConf raises almost anything for words that it did not foresee
        known = [f"{group}.{key}" for key in defaults]
        for word in words:
            key = f"{group}.{word.partition('=')[0]}"
            if ".".join(key.split(".")[:2]) not in known:
                raise ConfigError(f"unknown key {key!r}; {_hint(key, known)}") from error
        where = f"{group}.{getattr(error, 'full_key', None) or words[-1]}"
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def _hint(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(known))}"


def _check(serve: ServeSettings) -> None:
    for name, value, choices in (
        ("process_frame", serve.process_frame, PROCESS_FRAME),
        ("root_socket", serve.root_socket, ROOT_SOCKETS),
        ("missing_start", serve.missing_start, REACTIONS),
        ("text_change", serve.text_change, REACTIONS),
    ):
        if value not in choices:
            raise ConfigError(f"serve.{name} must be {' or '.join(choices)}, was {value!r}")
    for name in ("max_batch", "sessions", "idle_s", "call_s", "max_request_mb", "max_pixels"):
        if getattr(serve, name) <= 0:
            raise ConfigError(f"serve.{name} must be above 0, was {getattr(serve, name)}")
    for name in ("waiting", "wait_s", "rate"):
        if getattr(serve, name) < 0:
            raise ConfigError(f"serve.{name} must be 0 or more, was {getattr(serve, name)}")
    if serve.window is not None and serve.window < 1:
        raise ConfigError(f"serve.window must be 1 or more, was {serve.window}")
    if not 0 <= serve.port <= 65535:
        raise ConfigError(f"serve.port must lie in 0 .. 65535, was {serve.port}")
    if not 0 <= serve.seed < 2**63:
        raise ConfigError(f"serve.seed must lie in 0 .. 2^63 - 1, was {serve.seed}")
    token_of(serve)
