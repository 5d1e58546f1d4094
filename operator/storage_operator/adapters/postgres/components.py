"""Observe one store in the database, and apply a component's plan to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.component import (
    ComponentAction,
    CreatePartitions,
    CreateVectorTable,
    ObservedComponent,
    SaveComponent,
    SetStorageParameters,
)
from storage_sql.renderer import ident, literal, render_file
from storage_sql.stores import STORES_BY_NAME

_CREATE_TABLE = "SELECT {{ schema }}.create_vector_table({{ dimension }});\n"
_CREATE_PARTITIONS = "SELECT {{ schema }}.ensure_event_partitions({{ unit }}, {{ ahead }});\n"
_SAVE = """UPDATE {{ schema }}.components SET enabled = {{ enabled }}, parameters = {{ parameters }}::jsonb, updated_at = now()
WHERE store = {{ store }};
"""
_SET_OPTION = "ALTER TABLE {{ schema }}.{{ table }} SET ({{ option }} = {{ value }});\n"


@dataclass(frozen=True, slots=True)
class ComponentState:
    """What planning looks at, and the partitions that the status shows."""

    observed: ObservedComponent
    tables: tuple[str, ...]
    partition_count: int
    horizon: datetime | None


async def observe(installation: Installation, store: str) -> ComponentState:
    """Read one store's row, tables, storage parameters and partitions: one round trip."""
    text = render_file(
        "provisioning/observe_component.sql", schema=ident(installation.schema), schema_name=installation.schema_literal
    )
    ((document,),) = await installation.server.query(text, (store,))
    covered = STORES_BY_NAME[store].tables
    own = {table for table in document["tables"] or () if any(entry.covers(table) for entry in covered)}
    options = {
        leaf["name"]: dict(option.split("=", 1) for option in leaf["options"] or ())
        for leaf in document["leaves"] or ()
        if leaf["root"] in own
    }
    partitions = document["partitions"] or {}
    horizon = partitions.get("horizon") if store == "events" else None
    return ComponentState(
        ObservedComponent(
            enabled=document["row"]["enabled"],
            parameters=document["row"]["parameters"],
            tables=frozenset(own),
            options=options,
            ahead=partitions.get("ahead") or 0,
        ),
        tuple(sorted(own)),
        partitions.get("count") or 0,
        None if horizon is None else datetime.fromisoformat(horizon),
    )


async def apply(installation: Installation, actions: Sequence[ComponentAction]) -> None:
    """Carry a plan out in one transaction; the sets are put right afterwards by whoever called."""
    script = Script(installation.schema, installation.roles.owner, epoch=installation.epoch)
    for action in actions:
        match action:
            case CreateVectorTable(dimension=dimension):
                script.raw(_CREATE_TABLE, dimension=literal(dimension))
            case CreatePartitions(unit=unit, ahead=ahead):
                script.raw(_CREATE_PARTITIONS, unit=literal(unit), ahead=literal(ahead))
            case SaveComponent(store=store, enabled=enabled, parameters=parameters):
                text = json.dumps(dict(parameters), sort_keys=True)
                script.raw(_SAVE, store=literal(store), enabled=literal(enabled), parameters=literal(text))
            case SetStorageParameters(table=table, parameters=parameters):
                for option, value in parameters:
                    script.raw(_SET_OPTION, table=ident(table), option=ident(option), value=literal(str(value)))
    if not script.empty:
        await installation.server.script(script.text(), script.count)


async def reset(installation: Installation, store: str) -> None:
    """Give a store its defaults back: enabled, no parameters."""
    await apply(
        installation, (SaveComponent(store, enabled=True, parameters=(), why="the StorageComponent is deleted"),)
    )
