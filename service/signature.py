"""Signs what is sent to an operator's endpoint, as Standard Webhooks 1.0 says. Knows no HTTP and no database.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"
FEWEST_BYTES = 24
"""Of a key: what the specification asks for."""


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for: those in base64 after `whsec_`, or else those of the text itself.

    Raises:
        ValueError: it is too short, or no base64; the secret is not in the message.
    """
    key = secret.encode()
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"what follows {PREFIX} is not base64") from None
    if len(key) < FEWEST_BYTES:
        raise ValueError(
            f"the secret has {len(key)} bytes, fewer than {FEWEST_BYTES}; `openssl rand -base64 32` makes one, to be "
            f"written after {PREFIX}"
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """What the header `webhook-signature` holds; `timestamp` in seconds since 1970."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
