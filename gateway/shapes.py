#!/usr/bin/env python3
"""Writes src/wire/shapes.rs: the shapes of all Kafka requests, for the guard.

    python3 gateway/shapes.py KAFKA/clients/src/main/resources/common/message > gateway/src/wire/shapes.rs

KAFKA is a checkout of Apache Kafka at the release whose messages are wanted (now 4.2.0).
"""

import json
import pathlib
import re
import sys

NUMBERS = {
    "bool": "Bool", "int8": "Int8", "int16": "Int16", "uint16": "Int16", "int32": "Int32", "uint32": "Int32",
    "int64": "Int64", "float64": "Int64", "uuid": "Uuid",
}
TEXTS = {"string": "String", "bytes": "Bytes", "records": "Bytes"}


def versions(text):
    """"3+" to (3, MAX), "0-4" to (0, 4), "none" to None."""
    if text is None or text == "none":
        return None
    if text.endswith("+"):
        return int(text[:-1]), None
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def span(text):
    found = versions(text)
    if found is None:
        return "NEVER"
    low, high = found
    return f"from({low})" if high is None else f"span({low}, {high})"


def kind(field, shared):
    of = field["type"]
    if of.startswith("[]"):
        return f"Array(&{kind({**field, 'type': of[2:]}, shared)})"
    if of in NUMBERS:
        return NUMBERS[of]
    if of in TEXTS:
        return TEXTS[of]
    return f"Struct(&[{', '.join(line(inner, shared) for inner in field.get('fields') or shared[of])}])"


def line(field, shared):
    nullable = span(field.get("nullableVersions"))
    if "tag" in field:
        return f"tagged({field['tag']}, {kind(field, shared)}, {span(field['taggedVersions'])}, {nullable})"
    if nullable == "NEVER":
        return f"field({kind(field, shared)}, {span(field['versions'])})"
    return f"nullable({kind(field, shared)}, {span(field['versions'])}, {nullable})"


def main():
    requests = []
    for path in pathlib.Path(sys.argv[1]).glob("*Request.json"):
        text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
        message = json.loads(text)
        if message["type"] == "request" and message["validVersions"] != "none":
            requests.append(message)
    requests.sort(key=lambda message: message["apiKey"])
    print("//! The shapes of all requests of Apache Kafka 4.2.0. Written by gateway/shapes.py; not to be edited.")
    print()
    print("use super::shape::Kind::*;")
    print("use super::shape::{NEVER, Shape, field, from, nullable, span, tagged};")
    print()
    print("/// One line a request, by API key.")
    print("#[rustfmt::skip]")
    print("pub static REQUESTS: &[Shape] = &[")
    for message in requests:
        shared = {struct["name"]: struct["fields"] for struct in message.get("commonStructs", [])}
        fields = ", ".join(line(field, shared) for field in message["fields"])
        name = message["name"].removesuffix("Request")
        flexible = span(message["flexibleVersions"])
        valid = span(message["validVersions"])
        print(f'    Shape {{ key: {message["apiKey"]}, name: "{name}", versions: {valid}, flexible: {flexible}, fields: &[{fields}] }},')
    print("];")


main()
