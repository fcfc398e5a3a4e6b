package iotpolicy

import (
	"fmt"
	"regexp"
	"strings"
)

// condition is one operator with one key and the values it is compared with.
type condition struct {
	name     string // as it was written
	key      string
	values   []test
	negated  bool // holds if none of the values fits
	ifExists bool // holds if the key is unknown
	set      set
	null     bool // the values say whether the key is to be unknown
	absent   bool // of null: it is
}

// set says what is asked of a key with several values.
type set string

const (
	single set = ""
	forAll set = "ForAllValues:"
	forAny set = "ForAnyValue:"
)

// test compares a value of the request with the policy's. open says that it cannot be told
// for certain: a variable in the policy's had no value, or the request's is of another kind.
type test func(v *view, value string) (fits, open bool)

// operator is a kind of comparison.
type operator struct {
	negated bool
	kinds   []kind // of the policy's values
	read    func(text string) (test, error)
}

var operators = map[string]operator{
	"StringEquals":              {false, texts, stringEquals},
	"StringNotEquals":           {true, texts, stringEquals},
	"StringEqualsIgnoreCase":    {false, texts, stringEqualsIgnoreCase},
	"StringNotEqualsIgnoreCase": {true, texts, stringEqualsIgnoreCase},
	"StringLike":                {false, texts, stringLike},
	"StringNotLike":             {true, texts, stringLike},
	"Bool":                      {false, booleans, boolean},
	"IpAddress":                 {false, texts, address},
	"NotIpAddress":              {true, texts, address},
	"ArnEquals":                 {false, texts, arnLike},
	"ArnLike":                   {false, texts, arnLike},
	"ArnNotEquals":              {true, texts, arnLike},
	"ArnNotLike":                {true, texts, arnLike},
	"Null":                      {false, booleans, boolean},
}

var (
	texts    = []kind{isString}
	numbers  = []kind{isString, isNumber}
	booleans = []kind{isString, isBool}
)

func init() {
	for name, holds := range map[string]func(order int) bool{
		"Equals": func(o int) bool { return o == 0 }, "LessThan": func(o int) bool { return o < 0 }, "LessThanEquals": func(o int) bool { return o <= 0 },
		"GreaterThan": func(o int) bool { return o > 0 }, "GreaterThanEquals": func(o int) bool { return o >= 0 },
	} {
		operators["Numeric"+name] = operator{false, numbers, numeric(holds)}
		operators["Date"+name] = operator{false, numbers, date(holds)}
	}
	for _, kind := range []string{"Numeric", "Date"} {
		not := operators[kind+"Equals"]
		not.negated = true
		operators[kind+"NotEquals"] = not
	}
}

var keyForm = regexp.MustCompile(`^[A-Za-z0-9-]+:[^\s*?]+$`)

func (p *parser) conditions(n *node, path string) (all []*condition) {
	if !p.want(n, path, isObject) {
		return nil
	}
	for _, m := range n.members {
		at := path + "." + m.name
		shape, op, ok := readOperator(m.name)
		if !ok {
			p.fail(m.value, path, "unknown operator %.60q", m.name)
			return all
		}
		if !p.want(m.value, at, isObject) {
			return all
		}
		if len(m.value.members) == 0 {
			p.fail(m.value, at, "no condition key")
		}
		for _, k := range m.value.members {
			if !keyForm.MatchString(k.name) {
				p.fail(k.value, at, "condition key %.100q, want one such as %s", k.name, ClientID)
			}
			c := shape
			c.key = k.name
			p.conditionValues(&c, op, k.value, at+"."+k.name)
			all = append(all, &c)
		}
	}
	return all
}

// readOperator takes a name such as ForAnyValue:StringLikeIfExists apart.
func readOperator(name string) (c condition, op operator, ok bool) {
	c.name = name
	for _, s := range []set{forAll, forAny} {
		if rest, found := strings.CutPrefix(name, string(s)); found {
			name, c.set = rest, s
		}
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	op, ok = operators[name]
	c.negated, c.null = op.negated, name == "Null"
	if c.null && (c.ifExists || c.set != single) {
		return c, op, false
	}
	return c, op, ok
}

func (p *parser) conditionValues(c *condition, op operator, n *node, path string) {
	items := []*node{n}
	if n.kind == isArray {
		items = n.items
	}
	if len(items) == 0 || c.null && len(items) > 1 {
		p.fail(n, path, "%d values, want one at least, and of Null no more", len(items))
		return
	}
	for _, item := range items {
		if item.kind != op.kinds[0] && item.kind != op.kinds[len(op.kinds)-1] {
			p.fail(item, path, "%s, want %s", item.kind, op.kinds[len(op.kinds)-1])
			continue
		}
		compare, err := op.read(item.text)
		if err != nil {
			p.fail(item, path, "%v", err)
			continue
		}
		c.values, c.absent = append(c.values, compare), strings.EqualFold(item.text, "true")
	}
}

// holds judges the condition. open says that it may hold for want of knowledge alone.
func (c *condition) holds(v *view) (ok, open bool) {
	values := v.values(c.key)
	switch {
	case c.null:
		return (len(values) == 0) == c.absent, false
	case len(values) == 0 && !c.ifExists:
		v.lacks(c.key)
		return c.set == forAll || c.set == single && c.negated, false
	case len(values) == 0:
		return true, false
	}
	held := 0
	for _, value := range values {
		fits := false
		for _, compare := range c.values {
			one, without := compare(v, value)
			fits, open = fits || one, open || without
		}
		if fits != c.negated {
			held++
		}
	}
	all := c.set == forAll || c.set == single && c.negated
	return held == len(values) || !all && held > 0, open && c.negated
}

func (c *condition) String() string { return fmt.Sprintf("%s %s", c.name, c.key) }
