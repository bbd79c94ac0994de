"""A certificate for the metrics where none is given: whoever scrapes authenticates itself, not us."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from lws_runtime.tls import TlsSettings, server_context

MOUNTED: Final = Path("/tmp/k8s-metrics-server/serving-certs")
_DAYS: Final = 365


def metrics_context(settings: TlsSettings, mounted: Path = MOUNTED) -> ssl.SSLContext:
    """TLS with the mounted certificate, or with one made now. Raises OSError for files that will not do."""
    if (mounted / "tls.crt").exists():
        return server_context(settings, mounted / "tls.crt", mounted / "tls.key")
    with tempfile.TemporaryDirectory(prefix="lws-") as folder:
        certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        key.touch(mode=0o600)
        _write(certificate, key)
        return server_context(settings, certificate, key)


def _write(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lws-metrics")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
