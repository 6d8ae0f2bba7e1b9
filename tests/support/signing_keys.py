"""Pairs of keys that sign tokens."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization import PublicFormat as Public

RSA, RSA_2 = (rsa.generate_private_key(65537, 2048) for _ in range(2))
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(*private: Any) -> str:
    parts = [
        k.public_key().public_bytes(Encoding.PEM, Public.SubjectPublicKeyInfo) for k in private
    ]
    return b"".join(parts).decode()
