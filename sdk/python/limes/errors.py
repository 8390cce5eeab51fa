"""What can go wrong, and what the caller may do next."""

from __future__ import annotations

from . import codec


class LimesError(Exception):
    """The base of all of them."""


class ConnectError(LimesError):
    """No connection could be had; `code` is set if the cluster said no for good."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class CallError(LimesError):
    """A call, a message or a registration failed."""

    def __init__(self, code: int | str, ran: int, text: str) -> None:
        self.code = codec.CODES[code] if isinstance(code, str) else code
        self.ran, self.text = ran, text
        said = {codec.NO: "not run", codec.MAYBE: "may have run", codec.YES: "has run"}
        super().__init__(f"{self.code_name} ({said.get(ran, 'may have run')}): {text}")

    @property
    def code_name(self) -> str:
        """The code's name, or its number if this version does not know it."""
        return codec.CODE_NAMES.get(self.code, f"code {self.code}")

    @property
    def may_have_run(self) -> bool:
        """Whether the receiver's handler may have been run; if not, sending again cannot do it twice."""
        return self.ran != codec.NO


class Failed(LimesError):
    """Raised by a handler: its text goes to the caller."""
