"""What `alembic revision --autogenerate` compares and writes, beyond what Alembic does by itself.

- Schemas: the tables of all schemas that models name are compared.
- Named types (ENUM, DOMAIN): created, changed and dropped by plain SQL, so that a downgrade leaves none behind.
- Server defaults: compared as PostgreSQL stores them, without evaluating them.
- Nothing is dropped that no migration has made, such as partitions, and tables of extensions and of other programs.

Source: Alembic's pages "Auto Generating Migrations" and "Plugins".
"""

import ast
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import (
    AlterColumnOp,
    CreateForeignKeyOp,
    CreateTableOp,
    DropConstraintOp,
    DropTableOp,
    MigrateOperation,
    UpgradeOps,
)
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.script import ScriptDirectory
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    DefaultClause,
    ForeignKeyConstraint,
    MetaData,
    Sequence,
    Table,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN, ENUM
from sqlalchemy.dialects.postgresql.named_types import CreateDomainType, CreateEnumType
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.schema import CreateSequence
from sqlalchemy.types import TypeEngine

log = logging.getLogger("alembic.autogenerate")

PLUGIN = "app.autogenerate"
BIND, ESCAPED = re.compile(r"(?<![:\w\\]):(?=\w)"), r"\\:"
"""A colon that `text()` would take for the beginning of a parameter."""
BY_CONVENTION = {"unique_constraint": "uq_", "foreign_key_constraint": "fk_", "check_constraint": "ck_"}
"""How the names of constraints begin that the naming convention gives."""

Key = tuple[str | None, str]
Values = list[str]
NamedType = ENUM | DOMAIN


@dataclass(frozen=True)
class FoundType:
    """A named type of the database: the statement that creates it, and the values of an ENUM."""

    create: str
    values: Values = field(default_factory=list)


COLUMNS_OF_TYPE = text("""
    SELECT attribute.attrelid::regclass::text, quote_ident(attribute.attname), attribute.atttypid <> type.oid,
        pg_get_expr(definition.adbin, definition.adrelid)
    FROM pg_type AS type
    JOIN pg_attribute AS attribute ON attribute.atttypid IN (type.oid, type.typarray)
    JOIN pg_class AS relation ON relation.oid = attribute.attrelid AND relation.relkind IN ('r', 'p')
    LEFT JOIN pg_attrdef AS definition ON definition.adrelid = relation.oid AND definition.adnum = attribute.attnum
    WHERE type.oid = CAST(:type AS regtype) AND attribute.attinhcount = 0 AND NOT attribute.attisdropped
    ORDER BY 1, 2
""")

STORED_COLUMN = text("""
    SELECT format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid)
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = CAST(:table AS regclass) AND attname = :column
""")


class History:
    """Which names the migrations use together, each statement by itself."""

    def __init__(self, script: ScriptDirectory | None) -> None:
        self.statements = [*_statements(script)] if script else []
        self.names = frozenset().union(*(names for _, names in self.statements))

    def made_table(self, name: str) -> bool:
        """Tell whether a migration creates a table of this name, or gives it to one."""
        makes = {"create_table", "rename_table"}
        return any(name in names and not makes.isdisjoint(calls) for calls, names in self.statements)

    def made(self, table: str, name: str) -> bool:
        """Tell whether a migration gives something of this name to a table, under the table's name or a former one."""
        renamed = [names for calls, names in self.statements if "rename_table" in calls and table in names]
        tables = {table}.union(*renamed)
        return any(name in names and not tables.isdisjoint(names - {name}) for _, names in self.statements)


def _statements(script: ScriptDirectory) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Yield the attributes and the texts in each statement of each function of the migrations."""
    for revision in script.walk_revisions():
        module = ast.parse(Path(revision.path).read_text(encoding="utf-8"))
        functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
        for statement in (statement for function in functions for statement in function.body):
            nodes = [*ast.walk(statement)]
            texts = (node.value for node in nodes if isinstance(node, ast.Constant))
            yield (
                frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute)),
                frozenset(value for value in texts if isinstance(value, str)),
            )


def extend(context: MigrationContext) -> None:
    """Add to the options that `context` was configured with. Filters of the project's own are asked first."""
    options, history = context.opts, History(context.script)
    metadata: MetaData = options["target_metadata"]
    schemas = {table.schema for table in metadata.tables.values()} | history.names

    def include_name(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "schema" or name is None or name in schemas

    def include_object(item: Any, name: str | None, kind: str, reflected: bool, compared_to: object) -> bool:
        if not reflected or compared_to is not None or not name:
            return True
        if kind == "table":
            is_ours = history.made_table(name)
        else:
            table = item.table.name
            prefix = BY_CONVENTION.get(kind)
            is_ours = history.made(table, name) or (prefix is not None and name.startswith(f"{prefix}{table}_"))
        if not is_ours:
            where = "" if kind == "table" else f" of table {item.table.name}"
            log.warning("Left alone: %s %r%s, which no model describes and no migration has made", kind, name, where)
        return is_ours

    warnings.filterwarnings("ignore", "Did not recognize type", SAWarning)  # Those of extensions cannot be compared.
    options["include_schemas"] = True
    options["include_name"] = _both(options.get("include_name"), include_name)
    options["include_object"] = _both(options.get("include_object"), include_object)
    options["render_item"] = _either(options.get("render_item"), render_item)
    options["autogenerate_plugins"] = [*options.get("autogenerate_plugins", ["alembic.autogenerate.*"]), PLUGIN]


def _both(theirs: Callable[..., bool] | None, ours: Callable[..., bool]) -> Callable[..., bool]:
    def both(*arguments: Any) -> bool:
        return (theirs is None or theirs(*arguments)) and ours(*arguments)

    return both


def _either(theirs: Callable[..., Any] | None, ours: Callable[..., Any]) -> Callable[..., Any]:
    def either(*arguments: Any) -> Any:
        return (theirs is not None and theirs(*arguments)) or ours(*arguments)

    return either


# ---------------------------------------------------------------------- columns


def compare_server_default(
    context: AutogenContext,
    operation: AlterColumnOp,
    schema: str | None,
    table: str,
    _column: str,
    found: Column[Any],
    model: Column[Any],
) -> PriorityDispatchResult:
    """Compare two defaults by their text, after PostgreSQL has parsed both: values may be random, or not comparable."""
    before, after = found.server_default, model.server_default
    is_wanted = context.migration_context.opts.get("compare_server_default") is True
    is_text = all(each is None or isinstance(each, DefaultClause) for each in (before, after))
    if not is_wanted or not is_text or model is model.table._autoincrement_column:
        return PriorityDispatchResult.CONTINUE
    operation.existing_server_default = before
    stored = str(before.arg) if isinstance(before, DefaultClause) else None
    if isinstance(found.type, DOMAIN):  # SQLAlchemy takes the type's default for the column's.
        stored = _stored(context, schema, table, model).default
        operation.existing_server_default = DefaultClause(text(stored)) if stored else None
    if stored != _default(context, model) and stored != _described(context, schema, table, model).default:
        operation.modify_server_default = after
    return PriorityDispatchResult.STOP


def compare_again(
    context: AutogenContext,
    operation: AlterColumnOp,
    schema: str | None,
    table: str,
    _column: str,
    found: Column[Any],
    model: Column[Any],
) -> PriorityDispatchResult:
    """Take back changes that are none: another name for the same type, and what SQLAlchemy takes from a DOMAIN."""
    if operation.modify_type is None and (operation.modify_nullable is None or not isinstance(found.type, DOMAIN)):
        return PriorityDispatchResult.CONTINUE
    stored = _stored(context, schema, table, model)
    if operation.modify_type is not None and stored.type == _described(context, schema, table, model).type:
        operation.modify_type = None
    if operation.modify_nullable is stored.is_nullable:
        operation.modify_nullable = None
    return PriorityDispatchResult.CONTINUE


@dataclass(frozen=True)
class StoredColumn:
    """A column as PostgreSQL describes it."""

    type: str
    is_nullable: bool
    default: str | None


def _stored(context: AutogenContext, schema: str | None, table: str, column: Column[Any]) -> StoredColumn:
    connection = _connection(context)
    relation = _qualified(connection.dialect, (schema, table))
    return StoredColumn(*connection.execute(STORED_COLUMN, {"table": relation, "column": column.name}).one())


def _described(context: AutogenContext, schema: str | None, table: str, column: Column[Any]) -> StoredColumn:
    """Return a column of a model as PostgreSQL would store it: it parses types and defaults, and words them its way."""
    connection = _connection(context)
    dialect, default = connection.dialect, _default(context, column)
    name, kind = dialect.identifier_preparer.quote(column.name), dialect.type_compiler_instance.process(column.type)
    savepoint = connection.begin_nested()
    try:
        like = _qualified(dialect, (schema, table))
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE alembic_column (LIKE {like})")
        change = f"ALTER TABLE pg_temp.alembic_column ALTER COLUMN {name}"
        connection.exec_driver_sql(f"{change} TYPE {kind} USING NULL")
        if default is not None:
            connection.exec_driver_sql(f"{change} SET DEFAULT {default}")
        found = {"table": "pg_temp.alembic_column", "column": column.name}
        return StoredColumn(*connection.execute(STORED_COLUMN, found).one())
    except DBAPIError:  # It needs something that is still to be created.
        return StoredColumn(kind, bool(column.nullable), default)
    finally:
        savepoint.rollback()


def _default(context: AutogenContext, column: Column[Any]) -> str | None:
    """Return the default of a model's column as SQL."""
    dialect = _connection(context).dialect
    default: str | None = dialect.ddl_compiler(dialect, None).get_column_default_string(column)  # type: ignore[arg-type]
    return default


def _connection(context: AutogenContext) -> Connection:
    bind: Any = context.inspector.bind
    return bind


# ---------------------------------------------------------------------- schemas and named types


class RunSQLOp(MigrateOperation):
    """SQL statements, and those that undo them."""

    def __init__(self, upgrade: list[str], downgrade: list[str], *, is_committed: bool = False) -> None:
        self.upgrade = upgrade
        self.downgrade = downgrade
        self.is_committed = is_committed
        """Whether the statements are committed at once, as a new value of an ENUM has to be before it can be used."""

    def reverse(self) -> "RunSQLOp":
        """Return what undoes this."""
        return type(self)(self.downgrade, self.upgrade)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Describe this for `alembic check`."""
        return ("run_sql", *self.upgrade)


class DropTypesOp(RunSQLOp):
    """Statements that come after those that drop tables."""

    def reverse(self) -> RunSQLOp:
        """Return what creates the types again."""
        return RunSQLOp(self.downgrade, self.upgrade)


@renderers.dispatch_for(RunSQLOp)
def render_sql(_context: AutogenContext, operation: RunSQLOp) -> list[str]:
    """Write the statements, with colons as `text()` needs them."""
    lines = [f"op.execute({BIND.sub(ESCAPED, sql)!r})" for sql in operation.upgrade]
    if operation.is_committed:
        return ["\n    ".join(["with op.get_context().autocommit_block():", *lines])]
    return lines


def compare_schemas_and_types(context: AutogenContext, operations: UpgradeOps) -> PriorityDispatchResult:
    """Create what the models use, before everything else, and drop the types that they no longer use, after it."""
    connection, inspector = _connection(context), context.inspector
    tables = context.sorted_tables
    missing = {table.schema for table in tables if table.schema} - {*inspector.get_schema_names()}
    quote = connection.dialect.identifier_preparer.quote
    schemas = [RunSQLOp([f"CREATE SCHEMA IF NOT EXISTS {quote(name)}"], []) for name in sorted(missing)]

    default_schema = connection.dialect.default_schema_name
    found = {key: kind for key, kind in _found_types(inspector) if context.run_name_filters(key[0], "schema", {})}
    wanted: dict[Key, NamedType] = {}
    for column in (column for table in tables for column in table.columns):
        for kind in _named_types(column.type, connection.dialect):
            wanted[None if kind.schema == default_schema else kind.schema, str(kind.name)] = kind
    changes = [
        RunSQLOp([_create(connection.dialect, kind)], [_drop(connection.dialect, key)])
        for key, kind in wanted.items()
        if key not in found and kind.create_type
    ]
    for key, kind in wanted.items():
        if key in found and isinstance(kind, ENUM) and kind.create_type:
            changes += _change_enum(connection, key, found[key].values, kind.enums)
    sequences = [
        RunSQLOp([str(CreateSequence(each).compile(dialect=connection.dialect))], [f"DROP SEQUENCE {name}"])
        for name, each in _sequences(tables, connection.dialect).items()
        if not inspector.has_sequence(each.name, schema=each.schema)
    ]
    operations.ops[:0] = [*schemas, *sequences, *changes]
    operations.ops.extend(_take_foreign_keys(operations))
    _break_cycles(operations)
    names = History(context.migration_context.script).names
    for key, kind in found.items():
        if key not in wanted and key[1] in names:
            operations.ops.append(DropTypesOp([_drop(connection.dialect, key)], [kind.create]))
    return PriorityDispatchResult.CONTINUE


def _sequences(tables: Iterable[Table], dialect: Dialect) -> dict[str, Sequence]:
    """Return the sequences that columns take their values from."""
    columns = [column for table in tables for column in table.columns]
    defaults = [default for column in columns for default in (column.default, column.server_default)]
    sources = [getattr(getattr(default, "arg", None), "sequence", default) for default in defaults]
    return {_qualified(dialect, (each.schema, each.name)): each for each in sources if isinstance(each, Sequence)}


def _take_foreign_keys(operations: UpgradeOps) -> Iterator[CreateForeignKeyOp]:
    """Take foreign keys with `use_alter` out of the new tables: each is added after both of its tables."""
    for step in [step for step in operations.ops if isinstance(step, CreateTableOp)]:
        late = [item for item in step.columns if isinstance(item, ForeignKeyConstraint) and item.use_alter]
        step.columns = [item for item in step.columns if not any(item is key for key in late)]
        yield from map(CreateForeignKeyOp.from_constraint, late)


def _break_cycles(operations: UpgradeOps) -> None:
    """Drop foreign keys first where dropped tables refer to each other."""
    while True:
        steps = {step.to_table().key: step for step in operations.ops if isinstance(step, DropTableOp)}
        tables = {name: step.to_table() for name, step in steps.items()}
        order: TopologicalSorter[str] = TopologicalSorter()
        for name, table in tables.items():
            order.add(name, *({*map(_target, table.foreign_key_constraints)} & {*tables} - {name}))
        try:
            order.prepare()
        except CycleError as error:
            parent, name, *_ = error.args[1]
            table = tables[name]
            position = operations.ops.index(steps[name])
            keys = [key for key in table.foreign_key_constraints if _target(key) == parent]
            drops: list[MigrateOperation] = [DropConstraintOp.from_constraint(key) for key in keys]
            table.constraints.difference_update(keys)
            operations.ops[position : position + 1] = [*drops, DropTableOp.from_table(table)]
        else:
            return


def _target(key: ForeignKeyConstraint) -> str:
    return key.elements[0].target_fullname.rpartition(".")[0]


def _named_types(kind: TypeEngine[Any], dialect: Dialect) -> Iterator[NamedType]:
    if isinstance(kind, TypeDecorator):
        kind = kind.load_dialect_impl(dialect)
    if isinstance(kind, ARRAY):
        yield from _named_types(kind.item_type, dialect)
    elif isinstance(kind, DOMAIN):
        yield kind
    elif isinstance(implementation := kind.dialect_impl(dialect), ENUM):
        yield implementation


def _found_types(inspector: Any) -> Iterator[tuple[Key, FoundType]]:
    dialect = inspector.dialect
    for enum in inspector.get_enums(schema="*"):
        key = _key(inspector, enum)
        yield key, FoundType(_create_enum(dialect, key, enum["labels"]), enum["labels"])
    for domain in inspector.get_domains(schema="*"):
        key = _key(inspector, domain)
        parts = [f"CREATE DOMAIN {_qualified(dialect, key)} AS {domain['type']}"]
        if domain["collation"] not in (None, "default"):
            parts.append(f"COLLATE {_qualified(dialect, (None, domain['collation']))}")
        if domain["default"]:
            parts.append(f"DEFAULT {domain['default']}")
        if not domain["nullable"]:
            parts.append("NOT NULL")
        for constraint in domain["constraints"]:
            parts.append(f"CONSTRAINT {_qualified(dialect, (None, constraint['name']))} CHECK ({constraint['check']})")
        yield key, FoundType(" ".join(parts))


def _key(inspector: Any, kind: Mapping[str, Any]) -> Key:
    return None if kind["schema"] == inspector.default_schema_name else kind["schema"], kind["name"]


def _qualified(dialect: Dialect, key: Key) -> str:
    return ".".join(dialect.identifier_preparer.quote(name) for name in key if name)


def _create(dialect: Dialect, kind: NamedType) -> str:
    statement = CreateEnumType(kind) if isinstance(kind, ENUM) else CreateDomainType(kind)
    return str(statement.compile(dialect=dialect)).strip()


def _create_enum(dialect: Dialect, key: Key, values: Values) -> str:
    return f"CREATE TYPE {_qualified(dialect, key)} AS ENUM ({', '.join(map(_literal, values))})"


def _drop(dialect: Dialect, key: Key) -> str:
    return f"DROP TYPE {_qualified(dialect, key)}"


def _change_enum(connection: Connection, key: Key, before: Values, after: Values) -> Iterator[RunSQLOp]:
    """Add values where there are only new ones, and make the type again where some are gone. Their order is ignored."""
    if {*before} == {*after}:
        return
    name, former = (_qualified(connection.dialect, (key[0], each)) for each in (key[1], f"{key[1]}_before"))
    columns = connection.execute(COLUMNS_OF_TYPE, {"type": name}).all()

    def remake(values: Values) -> Iterator[str]:
        yield f"ALTER TYPE {name} RENAME TO {_qualified(connection.dialect, (None, f'{key[1]}_before'))}"
        yield _create_enum(connection.dialect, key, values)
        for table, column, is_array, default in columns:
            array = "[]" if is_array else ""
            change = f"ALTER TABLE {table} ALTER COLUMN {column}"
            if default:
                yield f"{change} DROP DEFAULT"
            yield f"{change} TYPE {name}{array} USING {column}::text{array}::{name}{array}"
            if default:
                yield f"{change} SET DEFAULT {default}"
        yield f"DROP TYPE {former}"

    if {*before} - {*after}:
        yield RunSQLOp([*remake(after)], [*remake(before)])
        return
    additions = []
    for previous, value in zip([None, *after], after, strict=False):
        if value not in before:
            position = f"AFTER {_literal(previous)}" if previous is not None else f"BEFORE {_literal(before[0])}"
            additions.append(f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {_literal(value)} {position}")
    yield RunSQLOp(additions, [*remake(before)], is_committed=True)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# ---------------------------------------------------------------------- how types are written


def render_item(kind: str, item: Any, context: AutogenContext) -> str | bool:
    """Write a type so that its migration works by itself: without creating it by the way, and with what it imports."""
    if kind != "type":
        return False
    dialect = _connection(context).dialect
    if isinstance(item, TypeDecorator) and not type(item).__module__.startswith("sqlalchemy."):
        item = item.load_dialect_impl(dialect)
        return render_item(kind, item, context) or _render_type(item, context)
    if isinstance(item, DOMAIN):
        rendered = _render_type(item, context)
        return rendered if not item.create_type else f"{rendered[:-1]}, create_type=False)"
    if hasattr(item, "enums") and isinstance(enum := item.dialect_impl(dialect), ENUM):
        context.imports.add("from sqlalchemy.dialects import postgresql")
        options = {"name": str(enum.name)} | ({"schema": str(enum.schema)} if enum.schema else {})
        arguments = [*map(repr, enum.enums), *(f"{name}={value!r}" for name, value in options.items())]
        return f"postgresql.ENUM({', '.join(arguments)}, create_type=False)"
    if not type(item).__module__.startswith("sqlalchemy."):
        context.imports.add(f"import {type(item).__module__}")
    return False


def _render_type(item: TypeEngine[Any], context: AutogenContext) -> str:
    is_ours = type(item).__module__.startswith("sqlalchemy.dialects.postgresql")
    if is_ours:
        context.imports.add("from sqlalchemy.dialects import postgresql")
    rendered = context.migration_context.impl.render_type(item, context)
    return rendered or f"{'postgresql' if is_ours else 'sa'}.{item!r}"


plugin = Plugin(PLUGIN)
plugin.add_autogenerate_comparator(
    compare_server_default, "column", "server_default", qualifier="postgresql", priority=DispatchPriority.FIRST
)
plugin.add_autogenerate_comparator(compare_again, "column", PLUGIN, priority=DispatchPriority.LAST)
plugin.add_autogenerate_comparator(compare_schemas_and_types, "autogenerate", priority=DispatchPriority.LAST)
