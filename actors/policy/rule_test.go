package policy

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// client-device-auth spec 2.1 and 2.4; the vectors hold the rest.
func TestRuleErrorsNameTheCharacter(t *testing.T) {
	tests := []struct {
		rule    string
		lexical bool
		want    string
	}{
		{"thingName: a.b", true, `character 13: '.' is not allowed`},
		{"thingName: pumpé", true, `character 16: 'é' is not allowed`},
		{"thingName : a", true, `character 11: ':' may stand only right after thingName`},
		{`thingName: a\b`, true, `character 13: '\' may stand only before ':'`},
		{"thingName: a\n", true, "character 13: a rule is one line"},
		{"thingName: \xff", true, "character 12: '\ufffd'"},
		{"thingName: a b", false, `character 14: "b" stands where AND, OR or the end`},
		{"thingName: a AND", false, `character 17: the rule ends where "thingName:" is expected`},
		{"thingName: OR", false, `character 12: "OR" stands where a thing name`},
		{"", false, `character 1: the rule ends where "thingName:" is expected`},
		{"thingName: a**", false, `character 14: "*" stands where AND`},
	}
	for _, tt := range tests {
		_, err := ParseRule(tt.rule)
		bad, ok := errors.AsType[*RuleError](err)
		if !ok || bad.Lexical != tt.lexical || !strings.HasPrefix(bad.Error(), tt.want) {
			t.Errorf("ParseRule(%q): %v, want lexical %t and %q", tt.rule, err, tt.lexical, tt.want)
		}
	}
}

// client-device-auth spec 2.2 and 2.5: a thing without a name is in no group, and a
// Rule that nobody parsed picks nothing.
func TestRulePicksNothingWithoutAName(t *testing.T) {
	for _, text := range []string{"thingName: *", "thingName: a*", "thingName: *a OR thingName: *"} {
		rule, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		if rule.Matches("") {
			t.Errorf("%q picks the empty name", text)
		}
	}
	if (Rule{}).Matches("a") {
		t.Error("the zero rule picks a thing")
	}
}

// The oracle is the grammar as expressions, and each clause matched by an expression.
var (
	ruleNameForm = `(?:\*?(?:[A-Za-z0-9_-]|\\:)+\*?|\*)`
	ruleForm     = regexp.MustCompile(`^[ \t\r]*thingName:[ \t\r]*` + ruleNameForm + `(?:[ \t\r]+(?:AND|OR)[ \t\r]+thingName:[ \t\r]*` + ruleNameForm + `)*[ \t\r]*$`)
	ruleClause   = regexp.MustCompile(`thingName:[ \t\r]*(` + ruleNameForm + `)`)
	ruleAnd      = regexp.MustCompile(`[ \t\r]AND[ \t\r]+thingName:`)
	ruleOr       = regexp.MustCompile(`[ \t\r]OR[ \t\r]+thingName:`)
)

func oracleRule(rule, thing string) bool {
	for _, or := range ruleOr.Split(strings.Replace(rule, "thingName:", "", 1), -1) {
		all := true
		for _, and := range ruleAnd.Split(or, -1) {
			name := strings.ReplaceAll(strings.Trim(and, " \t\r"), `\:`, ":")
			form := strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, `.*`)
			all = all && regexp.MustCompile(`^(?s:`+form+`)$`).MatchString(thing)
		}
		if all {
			return true
		}
	}
	return false
}

func FuzzRule(f *testing.F) {
	for _, rule := range []string{"thingName: a", "thingName: a* OR thingName: *b AND thingName: *c*", `thingName:\:`, "thingName: OR", "thingName: a\n", "thingName:* AND\tthingName:a\r"} {
		f.Add(rule, "abc")
	}
	f.Fuzz(func(t *testing.T, text, thing string) {
		rule, err := ParseRule(text)
		if err != nil {
			// What the oracle reads is a rule, unless a keyword stands for a name.
			if ruleForm.MatchString(text) {
				for _, m := range ruleClause.FindAllStringSubmatch(text, -1) {
					if m[1] == "OR" || m[1] == "AND" {
						return
					}
				}
				t.Fatalf("ParseRule(%q): %v, the grammar accepts it", text, err)
			}
			return
		}
		// The oracle wants blanks around AND and OR; after a token such as "a*" the grammar
		// does not.
		if !ruleForm.MatchString(text) || thing == "" {
			return
		}
		if got, want := rule.Matches(thing), oracleRule(text, thing); got != want {
			t.Fatalf("rule %q on %q: %v, want %v", text, thing, got, want)
		}
	})
}
