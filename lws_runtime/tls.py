"""TLS for what the operator serves: versions and cipher suites by Go's names, contexts for sockets.

Cipher suites are chosen for TLS 1.2 only; those of TLS 1.3 are always all on, as in Go. Suites that OpenSSL
no longer has (RC4, 3DES) cannot be asked for.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import attrs

VERSIONS: Final = {"VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}

TLS_13_SUITES: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

TLS_12_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
"""Go's names of cipher suites, and OpenSSL's. Two are older names for a suite that is there under its own."""


@attrs.frozen
class TlsSettings:
    """What is asked of TLS. min_version: a name in VERSIONS, or "" for TLS 1.2; cipher_suites: Go's names,
    none for those that OpenSSL thinks best."""

    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()


def server_context(settings: TlsSettings, certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for a server that speaks HTTP/1.1 and shows the certificate in these PEM files.

    Raises OSError (ssl.SSLError included) where the files cannot be read or do not belong together, or
    where none of the suites is to be had.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS.get(settings.min_version, ssl.TLSVersion.TLSv1_2)
    chosen = [TLS_12_SUITES[suite] for suite in settings.cipher_suites if suite in TLS_12_SUITES]
    if chosen:
        context.set_ciphers(":".join(chosen))
    elif settings.cipher_suites:  # only suites of TLS 1.3: there is none left for 1.2
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    # Without a password given, OpenSSL would ask for one on the terminal.
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    raise OSError("the private key is encrypted")
