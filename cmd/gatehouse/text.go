package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// plain writes text for a terminal. What strangers chose, such as client ids and topics,
// is in it: what would steer the terminal, or turn the direction of the text, is shown
// in place of being carried out.
type plain struct{ w io.Writer }

// Write implements io.Writer.
func (p plain) Write(b []byte) (int, error) {
	text := string(b)
	if strings.IndexFunc(text, steers) >= 0 {
		var shown strings.Builder
		for _, r := range text {
			if steers(r) {
				shown.WriteString(strings.Trim(strconv.QuoteToASCII(string(r)), `"`))
			} else {
				shown.WriteRune(r)
			}
		}
		text = shown.String()
	}
	if _, err := io.WriteString(p.w, text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// steers reports whether a terminal would act on r: controls, but for the end of a line
// and a tab, and invisible formatting.
func steers(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029')
}

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
