package authapi

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// Schemas is a file system with the JSON Schema (draft 2020-12) of every message:
// <op>-request.json, <op>-reply.json, <push>-push.json and error-reply.json.
func Schemas() fs.FS {
	sub, err := fs.Sub(schemaFiles, "schemas")
	if err != nil {
		panic(fmt.Sprintf("embedded schemas: %v", err)) // the folder is compiled in
	}
	return sub
}

// SchemaID is the $id of the schema of the message named so, such as
// "authorize-request".
func SchemaID(message string) string { return "urn:gatehouse:v1:" + message }
