"""The certificates that the operator makes for its webhooks: what is needed, and making it.

Flow: what the Secret holds + whether the API server knows it + the time -> `decide` -> a Decision, which
`carry_out` turns into what the Secret should hold. keeper.py moves it between the cluster, the folder and
here.

A certificate is only trusted while its authority is in the caBundle of the webhook configurations, so an
authority is replaced in steps, each its own write, and each safe to stop after:

1. The new authority comes first in the bundle, the old one stays; the server's certificate stays.
2. Once the bundle is in the configurations, the new authority signs a certificate for the server.
3. An hour later, when every replica serves it, the old authority leaves the bundle.

A Secret that was deleted or emptied, as people do to get new keys, is made anew at once; what the
configurations trusted before stays in the bundle for that hour, as other replicas still serve it.

The Secret's form is the Go controller's: `ca.crt` (the signing authority first), `ca.key`, `tls.crt`,
`tls.key`; RSA keys in PKCS #1, since it reads no others. So either takes the other's Secret as it is. An
authority with a key of another kind, which somebody put there, is replaced in the same steps.
"""

from __future__ import annotations

import datetime
from typing import Final, Literal

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY_S: Final = 86_400.0
AUTHORITY_S: Final = 10 * 365 * DAY_S
SERVER_S: Final = 365 * DAY_S
AHEAD_S: Final = 90 * DAY_S
"""How long before its end a certificate is replaced."""
SETTLE_S: Final = 3600.0
"""How long a new server certificate must be there before the authority of the old one is given up."""
_BACKDATED_S: Final = 3600.0  # clocks differ
_SKEW_S: Final = 300.0  # what begins so soon is waited for: not everybody back-dates certificates
_KEY_BITS: Final = 2048
_AUTHORITY_NAME: Final = "lws-ca"
_ORGANISATION: Final = "lws"

Action = Literal["none", "everything", "authority", "server", "trim"]


@attrs.frozen
class Material:
    """What the Secret holds, as PEM. authorities: the bundle, the signing one first. Keys are not shown."""

    authorities: bytes
    authority_key: bytes = attrs.field(repr=False)
    certificate: bytes
    key: bytes = attrs.field(repr=False)


@attrs.frozen
class Decision:
    """What to do about certificates, and why.

    none: nothing now. everything: a new authority and a certificate by it. authority: a new authority before
    the others. server: a new certificate by the authority. trim: authorities that are not needed go.
    """

    action: Action
    reason: str = ""


def dns_names(service: str, namespace: str) -> tuple[str, ...]:
    """The names of a Service; the first is the one that API servers ask for."""
    return f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"


def decide(material: Material | None, names: tuple[str, ...], *, injected: bool, now_s: float) -> Decision:
    """What is needed.

    material: None where the Secret holds none. injected: whether the bundle, as the Secret holds it, is in
    the webhook configurations. now_s: seconds since the epoch.
    """
    if material is None:
        return Decision("everything", "there is no certificate yet")
    authorities = _certificates(material.authorities)
    signing = _signing(authorities, material.authority_key)
    flaw = _flaw(material, authorities, names, now_s)
    if ending := _ending(signing, now_s):
        return Decision("everything" if flaw else "authority", ending)
    assert signing is not None
    if flaw:
        return Decision("server", flaw)
    server = _certificates(material.certificate)[0]
    if renewal := _renewal(server, signing, now_s):
        return Decision("server", renewal) if injected else Decision("none", "the bundle is not injected yet")
    if surplus := _surplus(authorities, signing, server, now_s):
        return Decision("trim", surplus)
    return Decision("none")


def carry_out(
    decision: Decision, material: Material | None, names: tuple[str, ...], *, trusted: bytes, now_s: float
) -> Material:
    """What the Secret should hold after a decision about `material`. Makes keys: up to a second of work.

    trusted: the authorities in the webhook configurations, as PEM.
    """
    if material is None or decision.action == "everything":
        made = _with_authority(Material(trusted, b"", b"", b""), now_s)
        return _with_server(made, names, now_s)
    match decision.action:
        case "authority":
            return _with_authority(material, now_s)
        case "server":
            return _with_server(material, names, now_s)
        case "trim":
            signing = _signing(_certificates(material.authorities), material.authority_key)
            assert signing is not None
            return attrs.evolve(material, authorities=_pem(signing))
        case _:
            return material


def self_signed(name: str, *, now_s: float) -> tuple[bytes, bytes]:
    """A certificate that vouches for itself, and its key, both as PEM; good for a year."""
    key = _new_key()
    subject = _name(name)
    names = (name,)
    return _pem(_server_certificate(subject, names, key, subject, key, now_s)), _key_pem(key)


# -- judging certificates


def _certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM text; none where one cannot be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        return ()


def _private_key(pem: bytes) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        return None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fits(certificate: x509.Certificate, key_pem: bytes) -> bool:
    key = _private_key(key_pem)
    if key is None:
        return False
    try:
        return _public(key.public_key()) == _public(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _end_s(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _not_yet(certificate: x509.Certificate, now_s: float) -> str:
    """When a certificate begins that nobody takes yet, as made by a replica whose clock is ahead; or ""."""
    begins = certificate.not_valid_before_utc
    return f"{begins:%Y-%m-%d %H:%M}" if begins.timestamp() > now_s + _SKEW_S else ""


def _signing(authorities: tuple[x509.Certificate, ...], key_pem: bytes) -> x509.Certificate | None:
    """The authority that the key is of; None where it is no RSA key, with which we do not sign."""
    if not isinstance(_private_key(key_pem), RSAPrivateKey):
        return None
    return next((one for one in authorities if _fits(one, key_pem) and _may_sign(one)), None)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _ending(signing: x509.Certificate | None, now_s: float) -> str:
    """Why another authority is needed, or ""."""
    if signing is None:
        return "the authority cannot be read, or its key is of another, or no RSA key"
    if begins := _not_yet(signing, now_s):
        return f"the authority is not valid before {begins}"
    if _end_s(signing) - AHEAD_S <= now_s:
        return f"the authority ends on {signing.not_valid_after_utc:%Y-%m-%d}"
    return ""


def _flaw(
    material: Material, authorities: tuple[x509.Certificate, ...], names: tuple[str, ...], now_s: float
) -> str:
    """Why the server's certificate is of no use to an API server that knows the bundle, or ""."""
    found = _certificates(material.certificate)
    if not found:
        return "the certificate cannot be read"
    server = found[0]
    if not _fits(server, material.key):
        return "the certificate's key is of another"
    if begins := _not_yet(server, now_s):
        return f"the certificate is not valid before {begins}"
    if _end_s(server) <= now_s:
        return f"the certificate ended on {server.not_valid_after_utc:%Y-%m-%d}"
    if names[0] not in _names_in(server):
        return f"the certificate is not for {names[0]}"
    valid = [one for one in authorities if _end_s(one) > now_s and not _not_yet(one, now_s)]
    if not any(_is_by(server, one) for one in valid):
        return "no authority in the bundle that is valid has signed the certificate"
    return ""


def _names_in(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _is_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _renewal(server: x509.Certificate, signing: x509.Certificate, now_s: float) -> str:
    """Why a certificate that is good now should be replaced, or ""."""
    if not _is_by(server, signing):
        return "the certificate is by an earlier authority"
    if _end_s(server) - AHEAD_S <= now_s:
        return f"the certificate ends on {server.not_valid_after_utc:%Y-%m-%d}"
    return ""


def _surplus(
    authorities: tuple[x509.Certificate, ...],
    signing: x509.Certificate,
    server: x509.Certificate,
    now_s: float,
) -> str:
    """Why the bundle should hold the signing authority alone, or ""."""
    settled_at_s = server.not_valid_before_utc.timestamp() + _BACKDATED_S + SETTLE_S
    if len(authorities) == 1 or now_s < settled_at_s:
        return ""
    return f"all is signed by the authority that ends on {signing.not_valid_after_utc:%Y-%m-%d}"


# -- making certificates


def _new_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _with_authority(material: Material, now_s: float) -> Material:
    """The material with a new authority before those that have not ended."""
    key = _new_key()
    kept = [one for one in _certificates(material.authorities) if _end_s(one) > now_s]
    bundle = b"".join(map(_pem, dict.fromkeys((_authority(key, now_s), *kept))))
    return attrs.evolve(material, authorities=bundle, authority_key=_key_pem(key))


def _authority(key: RSAPrivateKey, now_s: float) -> x509.Certificate:
    subject = _name(_AUTHORITY_NAME)
    builder = _builder(subject, subject, key, key, now_s, AUTHORITY_S)
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(authority=True), True),
        (x509.SubjectAlternativeName([x509.DNSName(_AUTHORITY_NAME)]), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _with_server(material: Material, names: tuple[str, ...], now_s: float) -> Material:
    """The material with a new certificate for the server, by the authority that the key is of."""
    authority = _signing(_certificates(material.authorities), material.authority_key)
    authority_key = _private_key(material.authority_key)
    assert authority is not None
    key = _new_key()
    certificate = _server_certificate(
        _name(names[0].partition(".")[0]), names, key, authority.subject, authority_key, now_s
    )
    return attrs.evolve(material, certificate=_pem(certificate), key=_key_pem(key))


def _server_certificate(
    subject: x509.Name,
    names: tuple[str, ...],
    key: RSAPrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKeyTypes | None,
    now_s: float,
) -> x509.Certificate:
    assert isinstance(issuer_key, RSAPrivateKey)
    builder = _builder(subject, issuer, key, issuer_key, now_s, SERVER_S)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(authority=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: RSAPrivateKey,
    issuer_key: RSAPrivateKey,
    now_s: float,
    valid_s: float,
) -> x509.CertificateBuilder:
    # The key identifiers tell two authorities of one name apart.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_s - _BACKDATED_S))
        .not_valid_after(_time(now_s + valid_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
        ]
    )


def _time(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(at_s), datetime.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
