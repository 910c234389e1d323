"""What a remote policy can be told, and what its server tells of itself."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from envs.spec import ActionSpec, Gripper, Rotation
from policies.base import PolicyContext, PolicyError
from policies.vla.conventions import CONVENTIONS, convention_of

PROTOCOLS = ("memvla", "memoryvla", "dexbotic", "cogact", "openpi", "vla_eval")
HTTP = ("memoryvla", "dexbotic", "cogact")
ENDPOINTS = {"memoryvla": "/process_frame", "dexbotic": "/process_frame", "cogact": "/api/inference"}
TOKEN_VARIABLE = "MEMVLA_REMOTE_TOKEN"
"""Where the token for the server is taken from: never from the configuration, which is written into the manifest."""


@dataclass(frozen=True)
class Options:
    """The keys of remote.yaml; see there."""

    protocol: str = ""
    url: str = ""
    chunk: int | None = None
    execute: int | None = None
    slots: int | None = None
    convention: str | None = None
    cameras: tuple[str, ...] | None = None
    names: Mapping[str, str] | None = None
    state: bool = False
    encoding: str = "png"
    quality: int = 95
    swap_red_blue: bool = False
    timeout: float = 60.0

    @staticmethod
    def of(given: Mapping[str, Any]) -> Options:
        """Checked options. Raises PolicyError naming the one that is wrong."""
        known = [f.name for f in fields(Options)]
        for key in given:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1) or known
                raise PolicyError(f"unknown option of remote {key!r}; there are: {', '.join(near)}")
        made = Options(**{key: value for key, value in given.items() if value is not None})
        if made.protocol not in PROTOCOLS:
            raise PolicyError(
                f"policy.protocol must be one of {', '.join(PROTOCOLS)}, was {made.protocol or 'not given'}"
            )
        parts = urlsplit(made.url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise PolicyError(
                f"policy.url must be the server's address, like http://127.0.0.1:2345, was {made.url or 'not given'}"
            )
        if made.encoding not in ("png", "jpeg"):
            raise PolicyError(f"policy.encoding must be png or jpeg, was {made.encoding!r}")
        for name in ("chunk", "execute", "slots"):
            value = getattr(made, name)
            if value is not None and value < 1:
                raise PolicyError(f"policy.{name} must be 1 or more, was {value}")
        cameras = None if made.cameras is None else tuple(made.cameras)
        return dataclasses.replace(made, cameras=cameras)

    def address(self, path: str, *, socket: bool) -> str:
        """The endpoint: the URL's own path if it has one, else `path`, with the scheme that fits."""
        parts = urlsplit(self.url)
        secure = parts.scheme in ("https", "wss")
        scheme = ("wss" if secure else "ws") if socket else ("https" if secure else "http")
        base = parts.path.rstrip("/")
        whole = base if base.endswith(path.rstrip("/")) else base + path
        return urlunsplit((scheme, parts.netloc, whole or "/", parts.query, ""))

    def headers(self) -> dict[str, str]:
        """The token, where there is one."""
        token = os.environ.get(TOKEN_VARIABLE, "")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def camera_names(self, context: PolicyContext) -> tuple[str, ...]:
        """The cameras to send: those named, else the main one. Raises PolicyError for one there is not."""
        offered = [camera.name for camera in context.env.cameras]
        chosen = self.cameras or tuple(offered[:1])
        for name in chosen:
            if name not in offered:
                raise PolicyError(f"no camera {name!r} in {context.suite}; there are {', '.join(offered)}")
        return chosen


def ask(options: Options) -> dict[str, Any] | None:
    """What a server of ours says of itself at `/v1/policy`; None for any other server.

    Raises PolicyError when nothing answers at all.
    """
    import httpx

    parts = urlsplit(options.url)
    scheme = "https" if parts.scheme in ("https", "wss") else "http"
    try:
        found = httpx.get(
            f"{scheme}://{parts.netloc}/v1/policy",
            headers=options.headers(),
            timeout=options.timeout,
            trust_env=False,
        )
        told = found.json() if found.status_code == 200 else None
    except httpx.RemoteProtocolError:
        return None  # a bare WebSocket server answers plain HTTP badly
    except httpx.HTTPError as error:
        raise PolicyError(
            f"no server answers at {options.url} ({type(error).__name__}: {error}); start it first"
        ) from error
    except ValueError:
        return None
    if found.status_code == 401:
        raise PolicyError(f"the server at {options.url} wants a token: set {TOKEN_VARIABLE}")
    return told if isinstance(told, dict) and told.get("server") == "memvla" else None


def action_of(options: Options, about: Mapping[str, Any] | None, context: PolicyContext) -> ActionSpec:
    """The convention of the server's actions. Raises PolicyError for one that does not exist.

    Named by policy.convention: `env` (the environment's own), `family` (the environment's motion with MemoryVLA's
    gripper, 1 open and 0 closed) or the name of the data it was trained on. Else what a server of ours says; else `env`
    for openpi and vla-eval, whose servers answer in the environment's terms, and `family` for the others.
    """
    name = options.convention
    sockets = options.protocol in ("openpi", "vla_eval")
    if name is None and about is not None and not sockets:
        return _action(about["action"])
    name = name or ("env" if sockets else "family")
    if name == "env":
        return context.env.action
    if name != "family" and name not in (*CONVENTIONS, "mikasa_dataset"):
        known = ", ".join(("env", "family", *CONVENTIONS, "mikasa_dataset"))
        raise PolicyError(f"policy.convention must be one of {known}, was {name!r}")
    return convention_of(None if name == "family" else name, context).action


def _action(told: Mapping[str, Any]) -> ActionSpec:
    try:
        parts = dict(told)
        parts["rotation"] = Rotation(parts["rotation"])
        parts["gripper"] = Gripper(**parts["gripper"])
        return ActionSpec(**parts)
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"the server describes its actions in words this version does not know: {error}") from error
