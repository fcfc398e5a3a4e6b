package permission

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustCompile(t testing.TB, permissions ...Permission) *Set {
	t.Helper()
	s, err := Compile(permissions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSetAllows(t *testing.T) {
	set := mustCompile(t,
		Permission{"mqtt:publish", "mqtt:topic:a/*/c"}, // 0
		Permission{"mqtt:publish", "mqtt:topic:plain"}, // 1
		Permission{"mqtt:*", "mqtt:clientId:*"},        // 2
		Permission{"*", "*:public"},                    // 3
		Permission{"mqtt:sub*", "*"},                   // 4: no such wildcard
		Permission{"", "*"},                            // 5: empty is passed over
		Permission{"mqtt:publish", ""},                 // 6
		Permission{"mqtt:publish", "mqtt:topic:a+b/#?"},
		Permission{"mqtt:publish", "mqtt:topic:" + ThingNameVariable},
	)
	tests := []struct {
		operation, resource string
		allowed             bool
		rule                int
	}{
		{"mqtt:publish", "mqtt:topic:a/b/c", true, 0},
		{"mqtt:publish", "mqtt:topic:a//c", true, 0},
		{"mqtt:publish", "mqtt:topic:a/c", false, 0},
		{"mqtt:publish", "mqtt:topic:a/b/c/d", false, 0},
		{"mqtt:publish", "mqtt:topic:plain", true, 1},
		{"mqtt:publish", "mqtt:topic:plain2", false, 0},
		{"mqtt:publish", "mqtt:topic:Plain", false, 0},
		{"mqtt:connect", "mqtt:clientId:x", true, 2},
		{"http:connect", "http:clientId:x", false, 0},
		{"http:get", "http:path:public", true, 3},
		{"mqtt:subscribe", "mqtt:topicfilter:x", false, 0},
		{"mqtt:publish", "mqtt:topic:a+b/#?", true, 7},
		{"mqtt:publish", "mqtt:topic:axb/#?", false, 0},
		{"mqtt:publish", "mqtt:topic:" + ThingNameVariable, true, 8}, // plain text to Compile
	}
	for _, tt := range tests {
		got := set.Allows(tt.operation, tt.resource)
		if want := (Decision{Allowed: tt.allowed, Rule: tt.rule}); got != want {
			t.Errorf("Allows(%q, %q) = %+v, want %+v", tt.operation, tt.resource, got, want)
		}
		if bytes := set.AllowsBytes([]byte(tt.operation), []byte(tt.resource)); bytes != got {
			t.Errorf("AllowsBytes(%q, %q) = %+v, Allows says %+v", tt.operation, tt.resource, bytes, got)
		}
	}
	if set.Len() != 7 {
		t.Errorf("Len() = %d, want 7", set.Len())
	}
}

func TestSetSeparatesDenyFromFailure(t *testing.T) {
	set := mustCompile(t, Permission{"*", "*"})
	if d := set.Allows("mqtt:publish", "http:a:b"); d.Allowed || d.Err != ErrServiceMismatch || d.Malformed != nil {
		t.Errorf("other service: %+v, want only Err", d)
	}
	if d := set.Allows("mqtt:", "http:a:b"); d.Allowed || d.Err != nil || !errors.Is(d.Malformed, ErrMalformed) {
		t.Errorf("malformed: %+v, want only Malformed", d)
	}
}

func TestNilAndEmptySetsAllowNothing(t *testing.T) {
	for _, set := range []*Set{nil, {}, mustCompile(t)} {
		if d := set.Allows("mqtt:publish", "mqtt:topic:a"); d != (Decision{}) {
			t.Errorf("%+v, want a deny", d)
		}
		if set.Match(Request{}, "x") != -1 || set.Len() != 0 {
			t.Error("an empty set matches something")
		}
	}
	if mustCompile(t, Permission{"*", "*"}).Match(Request{}, "") != -1 {
		t.Error("the zero Request, which nobody checked, is allowed")
	}
}

func TestTemplateMatchesTheThingAsText(t *testing.T) {
	v := ThingNameVariable
	set, err := CompileTemplate([]Permission{
		{"mqtt:connect", "mqtt:clientId:" + v},
		{"mqtt:publish", "mqtt:topic:" + v + "/*"},
		{"mqtt:publish", "mqtt:topic:x/*/" + v + "/y/" + v + "*z"},
		{"mqtt:publish", "mqtt:" + v + ":" + v + v},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		thing, operation, resource string
		rule                       int
	}{
		{"pump", "mqtt:connect", "mqtt:clientId:pump", 0},
		{"pump", "mqtt:connect", "mqtt:clientId:pump2", -1},
		{"pump", "mqtt:connect", "mqtt:clientId:" + v, -1},
		{"a:b", "mqtt:connect", "mqtt:clientId:a:b", 0},
		{"*", "mqtt:connect", "mqtt:clientId:other", -1},
		{"*", "mqtt:connect", "mqtt:clientId:*", 0},
		{"#", "mqtt:publish", "mqtt:topic:a/b", -1},
		{"", "mqtt:connect", "mqtt:clientId:", -1},
		{"", "mqtt:publish", "mqtt:topic:/x", -1},
		{"pump", "mqtt:publish", "mqtt:topic:pump/x", 1},
		{"pump", "mqtt:publish", "mqtt:topic:pumpx/x", -1},
		{"p", "mqtt:publish", "mqtt:topic:x/1/2/p/y/p--z", 2},
		{"p", "mqtt:publish", "mqtt:topic:x//p/y/pz", 2},
		{"p", "mqtt:publish", "mqtt:topic:x/p/y/pz", -1},
		{"p", "mqtt:publish", "mqtt:p:pp", 3},
		{"p", "mqtt:publish", "mqtt:p:p", -1},
	}
	for _, tt := range tests {
		r := Request{operation: tt.operation, service: "mqtt", resource: tt.resource}
		if got := set.Match(r, tt.thing); got != tt.rule {
			t.Errorf("thing %q, %s %s: rule %d, want %d", tt.thing, tt.operation, tt.resource, got, tt.rule)
		}
	}
	if d := set.Allows("mqtt:connect", "mqtt:clientId:"+v); d.Allowed {
		t.Error("a template allows a request without a thing")
	}
}

func TestCompileLimits(t *testing.T) {
	for name, permissions := range map[string][]Permission{
		"too many":       make([]Permission, MaxPermissions+1),
		"long operation": {{strings.Repeat("a", MaxOperationBytes+1), "*"}},
		"long resource":  {{"*", strings.Repeat("a", MaxResourceBytes+1)}},
	} {
		if set, err := Compile(permissions); !errors.Is(err, ErrTooLarge) || set != nil {
			t.Errorf("%s: %v, %v, want ErrTooLarge and no set", name, set, err)
		}
	}
}

func TestManyOperationsAreIndexed(t *testing.T) {
	var permissions []Permission
	for i := range 3 * scanMax {
		permissions = append(permissions, Permission{fmt.Sprintf("mqtt:op%d", i), fmt.Sprintf("mqtt:topic:%d", i)})
	}
	set := mustCompile(t, permissions...)
	for i, p := range permissions {
		if d := set.Allows(p.Operation, p.Resource); !d.Allowed || d.Rule != i {
			t.Errorf("%v: %+v, want rule %d", p, d, i)
		}
		if d := set.Allows(p.Operation, "mqtt:topic:x"); d.Allowed {
			t.Errorf("%v allows another topic", p)
		}
	}
}

// naiveGlob is the obvious definition of '*', exponential and all.
func naiveGlob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return naiveGlob(pattern[1:], s) || s != "" && naiveGlob(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && naiveGlob(pattern[1:], s[1:])
}

func naiveMatch(p Permission, operation, resource, thing string) bool {
	service, _, _ := strings.Cut(operation, ":")
	if p.Operation != operation && p.Operation != service+":*" && p.Operation != "*" {
		return false
	}
	return p.Resource != "" && naiveGlob(strings.ReplaceAll(p.Resource, ThingNameVariable, thing), resource)
}

// The alphabet is small so that texts meet; V stands for the variable.
func drawResource(alphabet string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := rapid.StringOfN(rapid.RuneFrom([]rune(alphabet)), 0, 8, -1).Draw(t, "text")
		if rapid.Bool().Draw(t, "topic") {
			s = "a:b:" + s
		}
		return strings.ReplaceAll(s, "V", ThingNameVariable)
	})
}

func TestSetAgreesWithNaiveGlob(t *testing.T) {
	operations := rapid.SampledFrom([]string{"a:x", "a:y", "a:*", "b:*", "*", "a:x*"})
	rapid.Check(t, func(t *rapid.T) {
		permissions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Permission {
			return Permission{operations.Draw(t, "operation"), drawResource("ab:/**V").Draw(t, "resource")}
		}), 0, 40).Draw(t, "permissions")
		set, err := CompileTemplate(permissions)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			thing := rapid.SampledFrom([]string{"a", "b", "ab", "ba:a"}).Draw(t, "thing")
			r := Request{operation: rapid.SampledFrom([]string{"a:x", "a:y"}).Draw(t, "op"), service: "a",
				resource: "a:b:" + rapid.StringOfN(rapid.RuneFrom([]rune("ab:/*")), 1, 10, -1).Draw(t, "name")}
			want := false
			for _, p := range permissions {
				want = want || naiveMatch(p, r.operation, r.resource, thing)
			}
			for _, p := range permissions {
				text := strings.ReplaceAll(p.Resource, ThingNameVariable, thing)
				if got, want := Matches(text, r.resource), naiveGlob(text, r.resource); got != want {
					t.Fatalf("Matches(%q, %q) = %v, want %v", text, r.resource, got, want)
				}
			}
			got := set.Match(r, thing)
			if want != (got >= 0) || want && !naiveMatch(permissions[got], r.operation, r.resource, thing) {
				t.Fatalf("thing %q %s %s: rule %d, naive says %v of %q", thing, r.operation, r.resource, got, want, permissions)
			}
		}
	})
}

// TestFewAreAsMany: a few permissions that are compared one by one allow what they do
// compiled among others.
func TestFewAreAsMany(t *testing.T) {
	operations := rapid.SampledFrom([]string{"a:x", "a:y", "a:*", "b:*", "*", "a:x*", ""})
	rapid.Check(t, func(t *rapid.T) {
		permissions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Permission {
			return Permission{operations.Draw(t, "operation"), drawResource("ab:/**V").Draw(t, "resource")}
		}), 0, fewMax).Draw(t, "permissions")
		several, err := Compile(permissions)
		if err != nil {
			t.Fatal(err)
		}
		list := permissions
		for i := range fewMax + 1 {
			list = append(list, Permission{"c:z", fmt.Sprint(i)})
		}
		many, err := Compile(list)
		if err != nil {
			t.Fatal(err)
		}
		if several.few == nil || many.few != nil || several.Len()+fewMax+1 != many.Len() {
			t.Fatalf("%d permissions: %+v, %+v", len(permissions), several, many)
		}
		if !several.CompiledFrom(slices.Clone(permissions)) || !many.CompiledFrom(slices.Clone(list)) || several.CompiledFrom(list) || many.CompiledFrom(permissions) {
			t.Fatalf("%d permissions: not known as what they were compiled from", len(permissions))
		}
		if n := len(permissions); n > 0 && permissions[n-1].Operation != "" && permissions[n-1].Resource != "" {
			other := slices.Clone(permissions)
			other[n-1].Resource += "x"
			if several.CompiledFrom(other) || several.CompiledFrom(permissions[:n-1]) {
				t.Fatal("others are taken for what it was compiled from")
			}
		}
		for range 8 {
			r := Request{operation: rapid.SampledFrom([]string{"a:x", "a:y"}).Draw(t, "op"), service: "a",
				resource: "a:b:" + rapid.StringOfN(rapid.RuneFrom([]rune("ab:/*")), 1, 10, -1).Draw(t, "name")}
			got, want := several.Match(r, "thing"), many.Match(r, "thing")
			if (got >= 0) != (want >= 0) || got >= 0 && !naiveMatch(permissions[got], r.operation, r.resource, ThingNameVariable) {
				t.Fatalf("%s %s: rule %d, compiled %d of %q", r.operation, r.resource, got, want, permissions)
			}
		}
	})
}

// More keys in one text than a search remembers: every one of them is still found.
func TestIndexSearchesOnWhenManyKeysOccur(t *testing.T) {
	var permissions []Permission
	var all strings.Builder
	for i := range 4 * triedMax {
		permissions = append(permissions, Permission{"a:x", fmt.Sprintf("a:b:*<%d>*end", i)})
		fmt.Fprintf(&all, "<%d>", i)
	}
	set := mustCompile(t, permissions...)
	if d := set.Allows("a:x", "a:b:"+all.String()); d.Allowed {
		t.Errorf("%+v, want a deny: nothing ends in end", d)
	}
	permissions[3*triedMax].Resource = strings.TrimSuffix(permissions[3*triedMax].Resource, "end")
	set = mustCompile(t, permissions...)
	if d := set.Allows("a:x", "a:b:"+all.String()); !d.Allowed || d.Rule != 3*triedMax {
		t.Errorf("%+v, want rule %d", d, 3*triedMax)
	}
}

func FuzzSet(f *testing.F) {
	f.Add("mqtt:topic:a*b*c", "mqtt:topic:abcbc", "t")
	f.Add("*"+ThingNameVariable+"*", "mqtt:topic:xpumpx", "pump")
	f.Add("mqtt:topic:**", "mqtt:topic:", "")
	f.Fuzz(func(t *testing.T, pattern, resource, thing string) {
		if strings.Count(pattern, "*") > 5 || len(resource) > 100 || thing == "" {
			return // the oracle's time explodes; ours is tested below
		}
		// An oracle that substitutes cannot tell a '*' in the thing from one in the pattern.
		if strings.Contains(thing, "*") {
			return
		}
		p := Permission{"a:x", pattern}
		set, err := CompileTemplate([]Permission{p})
		if err != nil {
			return
		}
		got := set.Match(Request{operation: "a:x", service: "a", resource: resource}, thing) >= 0
		if want := naiveMatch(p, "a:x", resource, thing); got != want {
			t.Fatalf("pattern %q on %q for %q: %v, want %v", pattern, resource, thing, got, want)
		}
		if pattern != "" && resource != "" {
			if got, want := matches(pattern, resource), naiveGlob(pattern, resource); got != want {
				t.Fatalf("%q on %q: %v, want %v", pattern, resource, got, want)
			}
		}
	})
}

// The patterns that make a backtracking matcher run for years.
func TestGlobIsLinear(t *testing.T) {
	name := strings.Repeat("a", 60_000)
	permissions := []Permission{
		{"mqtt:publish", "mqtt:topic:" + strings.Repeat("a*", 2_000) + "b"},
		{"mqtt:publish", strings.Repeat("*a", 2_000) + "*b*"},
		{"mqtt:publish", "*" + strings.Repeat("a", 500) + "b*"},
	}
	for len(permissions) <= 2*fewMax { // as few, then as many
		set := mustCompile(t, permissions...)
		start := time.Now()
		if d := set.Allows("mqtt:publish", "mqtt:topic:"+name); d.Allowed {
			t.Error("allowed without a b")
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%d permissions took %v, want a few milliseconds: the matcher backtracks", len(permissions), took)
		}
		for range fewMax {
			permissions = append(permissions, Permission{"mqtt:publish", fmt.Sprint("x", len(permissions))})
		}
	}
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	set, err := CompileTemplate([]Permission{
		{"mqtt:publish", "mqtt:topic:plain"},
		{"mqtt:publish", "mqtt:topic:*/x" + ThingNameVariable + "x/*"},
		{"mqtt:*", "mqtt:topic:p/*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	few := mustCompile(t, Permission{"mqtt:publish", "mqtt:topic:plain"}, Permission{"mqtt:publish", "mqtt:topic:*/x/*"}, Permission{"mqtt:*", "mqtt:topic:p/*"})
	op := []byte("mqtt:publish")
	for _, resource := range []string{"mqtt:topic:plain", "mqtt:topic:p/1", "mqtt:topic:a/xpumpx/b", "mqtt:topic:no", "bad", "http:a:b"} {
		res := []byte(resource)
		allocs := testing.AllocsPerRun(100, func() {
			set.AllowsBytes(op, res)
			few.AllowsBytes(op, res)
			if r, err := ParseRequest("mqtt:publish", resource); err == nil {
				set.Match(r, "pump")
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations, want 0", resource, allocs)
		}
	}
}
