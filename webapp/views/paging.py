"""How many items a client asks for in one answer: the parameter `limit`."""

from __future__ import annotations

import re

from ..errors import BadRequest

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


def limit(
    text: str | None, what: str, cursor: str, default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT
) -> int:
    """Return the value of the parameter.

    :param text: None: it is not there.
    :param what: the items.
    :param cursor: the parameter with which the next page is asked for.
    :raises BadRequest: it is not valid.
    """
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= most:
        detail = f"The parameter limit must be a number of {what} from 1 to {most}."
        remedy = f"Send it like limit={default}, and more requests with {cursor}=…."
        raise BadRequest(detail, remedy)
    return int(text)
