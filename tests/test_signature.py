"""Signatures as Standard Webhooks has them."""

import pytest

from service.signature import key_of, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the specification's own libraries


def test_it_is_what_the_reference_library_makes() -> None:
    """Made by standardwebhooks 1.1.0 for Python."""
    signed = signature(key_of(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_base64_after_its_prefix_or_text() -> None:
    assert key_of(SECRET).hex() == "31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0"
    assert key_of("ein Schlüssel aus Wörtern") == "ein Schlüssel aus Wörtern".encode()
    for secret, said in (
        ("whsec_not base64!", "what follows whsec_ is not base64"),
        ("whsec_äöü", "what follows whsec_ is not base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==", "has 22 bytes, fewer than 24"),
        ("a short one", "has 11 bytes, fewer than 24"),
        ("", "has 0 bytes"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            key_of(secret)
        assert not secret or secret not in str(refused.value)
