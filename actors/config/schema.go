package config

import _ "embed" // the schema below

// Schema is the JSON Schema (2020-12) of gatehouse.yaml, for editors. ParseFile is
// stricter where a schema cannot follow: keys given twice, addresses that leave the
// machine, the device groups' own rules.
//
//go:embed gatehouse.schema.json
var Schema []byte
