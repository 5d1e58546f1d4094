"""Write a plan as the SQL that applying it would run, for people who read a dry run: every verifier is masked."""

from __future__ import annotations

from collections.abc import Sequence

from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.actions import Action, CreateSet, DeleteRows, EndSessions, Plan
from storage_operator.planning.tenant import TenantNames

MASK = "SCRAM-SHA-256$masked"


def plan_text(installation: Installation, names: TenantNames, plan: Plan) -> str:
    """Return the statements in their order; what is not one fixed statement is told in a comment."""
    parts = [_part(installation, names, action) for action in plan.actions]
    return "\n".join(parts)


def _part(installation: Installation, names: TenantNames, action: Action) -> str:
    reason = f"-- {type(action).__name__}: {action.why}\n"
    match action:
        case CreateSet(role=role, stores=stores):
            return f"{reason}-- grants of the stores {_listed(stores)} to {role}, as the catalog lacks them\n"
        case EndSessions(logins=logins):
            return f"{reason}-- pg_terminate_backend() for every session of {_listed(logins)}, until none is left\n"
        case DeleteRows(tenant=tenant):
            return f"{reason}-- DELETE of the rows of {tenant} from every tenant table, children first\n"
    script = Script(installation.schema, installation.roles.owner, epoch=None, mark=names.mark)
    script.add(action, dict.fromkeys(names.logins, (MASK, MASK)))
    return reason + script.statements


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
