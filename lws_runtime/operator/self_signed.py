"""TLS for the metrics: whoever scrapes authenticates itself, so a certificate made on the spot will do."""

from __future__ import annotations

import ssl
import tempfile
import time
from pathlib import Path
from typing import Final

from lws_runtime.tls import TlsSettings, server_context
from lws_runtime.webhook.certificates import self_signed
from lws_runtime.webhook.server import Certificate

MOUNTED: Final = Path("/tmp/k8s-metrics-server/serving-certs")


def metrics_context(settings: TlsSettings, mounted: Path = MOUNTED) -> ssl.SSLContext:
    """TLS with the mounted certificate, or with one made now. Raises OSError for files that will not do.

    The mounted files are looked at with each connection: a pair that replaces them is served from then on.
    """
    if (mounted / "tls.crt").exists():
        server_context(settings, mounted / "tls.crt", mounted / "tls.key")  # raises, where Certificate waits
        renewed = Certificate(mounted, settings, at_each_connection=True)
        renewed.look()
        assert renewed.context is not None
        return renewed.context
    with tempfile.TemporaryDirectory(prefix="lws-") as folder:
        certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        key.touch(mode=0o600)
        pems = self_signed("lws-metrics", now_s=time.time())
        certificate.write_bytes(pems[0])
        key.write_bytes(pems[1])
        return server_context(settings, certificate, key)
