package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// inFile gives problems the name of the file they are in.
func inFile(file string, problems policy.Errors) policy.Errors {
	config.InFile(file, problems)
	return problems
}

// printInForce prints a value's JSON as "key: value" lines, a line a leaf.
func printInForce(w io.Writer, v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var tree any
	if err := json.Unmarshal(doc, &tree); err != nil {
		return err
	}
	return printTree(w, "", tree)
}

func printTree(w io.Writer, path string, v any) error {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 || strings.HasSuffix(path, "deviceGroups") {
		value, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s: %s\n", path, value)
		return err
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		below := k
		if path != "" {
			below = path + "." + k
		}
		if err := printTree(w, below, m[k]); err != nil {
			return err
		}
	}
	return nil
}
