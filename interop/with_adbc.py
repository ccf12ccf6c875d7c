"""A running collector over Flight SQL: python with_adbc.py https://127.0.0.1:7443 /var/lib/skep/tls "SELECT ..." """

import json
import pathlib
import sys

from adbc_driver_flightsql import DatabaseOptions, dbapi


def connect(url, tls):
    """Connects with the operator's certificate from a folder that `skep up` made."""
    tls = pathlib.Path(tls)
    return dbapi.connect(
        url.replace("https://", "grpc+tls://"),
        db_kwargs={
            DatabaseOptions.TLS_ROOT_CERTS.value: (tls / "ca.pem").read_text(),
            DatabaseOptions.MTLS_CERT_CHAIN.value: (tls / "operator.pem").read_text(),
            DatabaseOptions.MTLS_PRIVATE_KEY.value: (tls / "operator.key").read_text(),
        },
        autocommit=True,
    )


def tables(connection):
    catalogs = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    schemas = [schema for catalog in catalogs for schema in catalog["catalog_db_schemas"]]
    return sorted(table["table_name"] for schema in schemas for table in schema["db_schema_tables"])


def rows(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


if __name__ == "__main__":
    url, tls, *statements = sys.argv[1:]
    with connect(url, tls) as connection:
        columns = {name: connection.adbc_get_table_schema(name).names for name in tables(connection)}
        answers = [rows(connection, sql) for sql in statements]
        print(json.dumps({"server": connection.adbc_get_info(), "tables": columns, "answers": answers}, default=str))
