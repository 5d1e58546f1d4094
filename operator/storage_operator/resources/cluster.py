"""A StorageCluster as it was asked for: one PostgreSQL database and schema that holds the stores of its tenants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata, read_header
from storage_operator.resources.names import (
    DNS_LABEL,
    DNS_LABEL_MAX_LENGTH,
    DNS_SUBDOMAIN,
    DNS_SUBDOMAIN_MAX_LENGTH,
    SCHEMA_NAME,
    SCHEMA_NAME_MAX_LENGTH,
    TENANT_ID,
    TENANT_ID_MAX_LENGTH,
)
from storage_operator.resources.namespace_policy import NamespaceRule, NamespaceSource
from storage_operator.resources.reader import Reader
from storage_operator.resources.references import (
    SecretKeyReference,
    read_label_selector,
    read_optional_secret_key_reference,
    read_secret_key_reference,
)
from storage_operator.resources.tenant_id_patterns import MAX_LENGTH as PATTERN_MAX_LENGTH
from storage_operator.resources.tenant_id_patterns import PatternError, TenantIdPattern

if TYPE_CHECKING:
    from storage_operator.resources.faults import Faults

__all__ = [
    "Adoption",
    "Drift",
    "DriftPolicy",
    "Isolation",
    "Limits",
    "MigrationPolicy",
    "Migrations",
    "Pooler",
    "PoolerAuth",
    "StorageClusterSpec",
    "Tenancy",
    "Tls",
    "TlsMode",
    "VectorIndexMethod",
    "parse",
]

_SECOND: Final = 1_000
_DAY: Final = 86_400 * _SECOND
_MAX_RULES: Final = 16
_MAX_ADOPTIONS: Final = 128
_HOST: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$"
_HOST_MAX_LENGTH: Final = 253
_RESERVED_SCHEMAS: Final = frozenset({"public", "information_schema"})


class MigrationPolicy(StrEnum):
    """Who starts a migration of the schema."""

    AUTO = "Auto"
    MANUAL = "Manual"


class VectorIndexMethod(StrEnum):
    """How vectors of big tenants are indexed."""

    AUTO = "Auto"
    HNSW = "HNSW"
    VECTOR_CHORD = "VectorChord"
    NONE = "None"


class Isolation(StrEnum):
    """How a tenant is told apart from the others."""

    ROLE = "Role"
    SEALED = "Sealed"


class TlsMode(StrEnum):
    """How connections are encrypted and the server is verified."""

    DISABLE = "Disable"
    PREFER = "Prefer"
    REQUIRE = "Require"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"

    @property
    def sslmode(self) -> str:
        """The value of libpq's ``sslmode``."""
        return {"VerifyCA": "verify-ca", "VerifyFull": "verify-full"}.get(self.value, self.value.lower())


class DriftPolicy(StrEnum):
    """What happens to a difference between the catalog and the manifests."""

    REPAIR = "Repair"
    REPORT = "Report"


class PoolerAuth(StrEnum):
    """How PgBouncer learns the verifiers of the tenants' logins."""

    AUTH_FILE = "AuthFile"
    AUTH_QUERY = "AuthQuery"


@dataclass(frozen=True, slots=True)
class Migrations:
    """Who starts migrations; up to which version (None: the newest of this release)."""

    policy: MigrationPolicy = MigrationPolicy.AUTO
    target_version: int | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """Leave for one namespace to take over a tenant id whose rows were retained or come from elsewhere."""

    tenant_id: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Who may create tenants here, and with which isolation."""

    allowed_namespaces: tuple[NamespaceRule, ...] = (NamespaceRule(NamespaceSource.SAME),)
    isolation_modes: tuple[Isolation, ...] = (Isolation.ROLE,)
    adoptions: tuple[Adoption, ...] = ()

    def adoption_namespace(self, tenant_id: str) -> str | None:
        """Return the namespace that may adopt a tenant id, None when nobody may."""
        return next((adoption.namespace for adoption in self.adoptions if adoption.tenant_id == tenant_id), None)


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption of the operator's connections and of those of applications; the CA comes from a Secret."""

    mode: TlsMode = TlsMode.PREFER
    ca: SecretKeyReference | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """What to do about drift, and how often to look for it."""

    policy: DriftPolicy = DriftPolicy.REPAIR
    interval_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server the operator takes for itself.

    ``connections`` is the most that its pool opens, ``reserved_connections`` what it leaves to others when it adds up
    the tenants' limits, ``concurrency`` how many objects of this cluster are reconciled at once.
    """

    connections: int = 4
    reserved_connections: int = 10
    concurrency: int = 4
    usage_interval_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Pooler:
    """A PgBouncer that applications may use; ``auth_file_secret_name`` is set exactly for ``AuthFile``."""

    host: str
    port: int
    auth: PoolerAuth
    auth_file_secret_name: str | None
    reload_seconds: int


@dataclass(frozen=True, slots=True)
class StorageClusterSpec:
    """A valid StorageCluster with every default in place."""

    metadata: Metadata
    connection: SecretKeyReference
    direct_connection: SecretKeyReference | None
    schema: str
    migrations: Migrations
    vector_index_method: VectorIndexMethod
    tenancy: Tenancy
    tls: Tls
    drift: Drift
    limits: Limits
    pooler: Pooler | None


def parse(body: object, *, strict: bool = False) -> StorageClusterSpec | Faults:
    """Return the spec, or every fault of the document. Never raises.

    ``strict`` reports unknown fields as well, for files that people type; see Reader.
    """
    document = Reader.of(body, strict=strict)
    metadata = read_header(document, body, Kind.STORAGE_CLUSTER)
    spec = document.child("spec", required=True)
    connection = spec.child("connection", required=True)
    parsed = StorageClusterSpec(
        metadata=metadata,
        connection=(
            read_secret_key_reference(connection, "secretRef", default_key="dsn")
            if connection.is_object
            else SecretKeyReference("", "")
        ),
        direct_connection=read_optional_secret_key_reference(connection, "directSecretRef", default_key="dsn"),
        schema=_read_schema(spec),
        migrations=_read_migrations(spec.child("migrations")),
        vector_index_method=_read_vectors(spec.child("vectors")),
        tenancy=_read_tenancy(spec.child("tenancy")),
        tls=_read_tls(spec.child("tls")),
        drift=_read_drift(spec.child("drift")),
        limits=_read_limits(spec.child("limits")),
        pooler=_read_pooler(spec),
    )
    for reader in (connection, spec, document):
        reader.finish()
    return document.faults or parsed


def _read_schema(spec: Reader) -> str:
    schema = spec.text(
        "schema",
        pattern=SCHEMA_NAME,
        longest=SCHEMA_NAME_MAX_LENGTH,
        default="llmspell",
        kind="the name of a schema",
    )
    if schema.startswith("pg_") or schema in _RESERVED_SCHEMAS:
        spec.refuse("schema", "must not be public, information_schema or begin with pg_")
    return schema


def _read_migrations(migrations: Reader) -> Migrations:
    parsed = Migrations(
        policy=migrations.choice("policy", MigrationPolicy, default=MigrationPolicy.AUTO),
        target_version=migrations.optional_integer("targetVersion", least=1, most=100_000),
    )
    migrations.finish()
    return parsed


def _read_vectors(vectors: Reader) -> VectorIndexMethod:
    method = vectors.choice("indexMethod", VectorIndexMethod, default=VectorIndexMethod.AUTO)
    vectors.finish()
    return method


def _read_tenancy(tenancy: Reader) -> Tenancy:
    defaults = Tenancy()
    rules = tuple(_read_rule(rule) for rule in tenancy.children("allowedNamespaces", most=_MAX_RULES))
    modes = tenancy.choices("isolationModes", Isolation)
    adoptions = tuple(_read_adoption(adoption) for adoption in tenancy.children("adoptions", most=_MAX_ADOPTIONS))
    if len({adoption.tenant_id for adoption in adoptions}) < len(adoptions):
        tenancy.refuse("adoptions", "must not name a tenant id twice")
    tenancy.finish()
    return Tenancy(
        # An empty list is an answer (nobody), an absent one is not.
        allowed_namespaces=rules if tenancy.has("allowedNamespaces") else defaults.allowed_namespaces,
        isolation_modes=modes if modes is not None else defaults.isolation_modes,
        adoptions=adoptions,
    )


def _read_rule(rule: Reader) -> NamespaceRule:
    source = rule.required_choice("from", NamespaceSource)
    selector = read_label_selector(rule, "selector")
    if source is not None and (source is NamespaceSource.SELECTOR) != (selector is not None):
        rule.refuse("selector", "is given exactly when from is Selector")
    pattern = _read_pattern(rule)
    rule.finish()
    return NamespaceRule(source or NamespaceSource.SAME, selector, pattern)


def _read_pattern(rule: Reader) -> TenantIdPattern | None:
    field = "tenantIdPattern"
    value = rule.raw(field)
    if value is None:
        return None
    text = rule.checked_text(field, value, pattern=r"^[ -~]+$", longest=PATTERN_MAX_LENGTH, kind="printable ASCII")
    if not text:
        return None
    try:
        return TenantIdPattern(text)
    except PatternError as error:
        rule.refuse(field, f"is not a pattern that can be used: {error}")
        return None


def _read_adoption(adoption: Reader) -> Adoption:
    parsed = Adoption(
        tenant_id=adoption.text("tenantId", pattern=TENANT_ID, longest=TENANT_ID_MAX_LENGTH, kind="a tenant id"),
        namespace=adoption.text(
            "namespace", pattern=DNS_LABEL, longest=DNS_LABEL_MAX_LENGTH, kind="the name of a namespace"
        ),
    )
    adoption.finish()
    return parsed


def _read_tls(tls: Reader) -> Tls:
    mode = tls.choice("mode", TlsMode, default=TlsMode.PREFER)
    authority = read_optional_secret_key_reference(tls, "caSecretRef", default_key="ca.crt")
    if mode is TlsMode.VERIFY_CA and authority is None:
        tls.refuse("caSecretRef", "is required when mode is VerifyCA")
    if mode is TlsMode.DISABLE and authority is not None:
        tls.refuse("caSecretRef", "has no meaning when mode is Disable")
    tls.finish()
    return Tls(mode, authority)


def _read_drift(drift: Reader) -> Drift:
    parsed = Drift(
        policy=drift.choice("policy", DriftPolicy, default=DriftPolicy.REPAIR),
        interval_seconds=drift.duration("interval", least=_SECOND, most=7 * _DAY, default="10m") / _SECOND,
    )
    drift.finish()
    return parsed


def _read_limits(limits: Reader) -> Limits:
    parsed = Limits(
        connections=limits.integer("connections", least=1, most=100, default=4),
        reserved_connections=limits.integer("reservedConnections", least=0, most=10_000, default=10),
        concurrency=limits.integer("concurrency", least=1, most=64, default=4),
        usage_interval_seconds=limits.duration("usageInterval", least=_SECOND, most=7 * _DAY, default="15m") / _SECOND,
    )
    limits.finish()
    return parsed


def _read_pooler(spec: Reader) -> Pooler | None:
    pooler = spec.child("pooler")
    if not spec.has("pooler"):
        return None
    auth = pooler.required_choice("auth", PoolerAuth)
    secret_name = None
    if pooler.has("authFileSecretName"):
        secret_name = pooler.text(
            "authFileSecretName", pattern=DNS_SUBDOMAIN, longest=DNS_SUBDOMAIN_MAX_LENGTH, kind="the name of a Secret"
        )
    if auth is not None and (auth is PoolerAuth.AUTH_FILE) != (secret_name is not None):
        pooler.refuse("authFileSecretName", "is given exactly when auth is AuthFile")
    parsed = Pooler(
        host=pooler.text("host", pattern=_HOST, longest=_HOST_MAX_LENGTH, kind="a host name or address"),
        port=pooler.integer("port", least=1, most=65_535, default=6432),
        auth=auth or PoolerAuth.AUTH_QUERY,
        auth_file_secret_name=secret_name,
        reload_seconds=pooler.integer("reloadSeconds", least=0, most=3_600, default=30),
    )
    pooler.finish()
    return parsed
