"""Errors, and what the caller may do next."""

from __future__ import annotations

from . import codec


class LimesError(Exception):
    """The base of all errors of this package."""


class ConnectError(LimesError):
    """No connection could be opened; `code` is set if the cluster refuses this client for good."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class CallError(LimesError):
    """A call, a message or a registration failed."""

    def __init__(self, code: int | str, ran: int, text: str) -> None:
        self.code = codec.CODES[code] if isinstance(code, str) else code
        self.ran, self.text = ran, text
        texts = {codec.NOT_STARTED: "not run", codec.UNKNOWN: "may have run", codec.COMPLETED: "has run"}
        super().__init__(f"{self.code_name} ({texts.get(ran, 'may have run')}): {text}")

    @property
    def code_name(self) -> str:
        """The code's name, or its number if this version does not know it."""
        return codec.CODE_NAMES.get(self.code, f"code {self.code}")

    @property
    def may_have_run(self) -> bool:
        """Whether the receiver's handler may have run; if not, sending again cannot run it twice."""
        return self.ran != codec.NOT_STARTED


class Failed(LimesError):
    """Raised by a handler; the caller gets its text."""
