package iotpolicy

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Keys of a Context that are no certificate's (cloud spec 8.2).
const (
	ClientID      = "iot:ClientId"
	SourceIP      = "aws:SourceIp"
	CurrentTime   = "aws:CurrentTime" // as RFC 3339 writes it
	EpochTime     = "aws:EpochTime"   // in seconds
	ThingName     = "iot:Connection.Thing.ThingName"
	ThingTypeName = "iot:Connection.Thing.ThingTypeName"
	ThingAttached = "iot:Connection.Thing.IsAttached" // true or false
)

// ThingAttribute is the key of a thing's attribute.
func ThingAttribute(name string) string { return "iot:Connection.Thing.Attributes[" + name + "]" }

// valueCharsMax is how long a value may be to stand for a variable.
const valueCharsMax = 1024

// A Context is what is known of a request, for variables and conditions. The zero Context
// is empty. It is not safe for changes beside uses.
type Context struct {
	values map[string][]string // by canonical key
}

// Set gives key its values; none at all makes it unknown again. The case of keys does not
// count, but for attributes' names.
func (c *Context) Set(key string, values ...string) {
	if c.values == nil {
		c.values = map[string][]string{}
	}
	if len(values) == 0 {
		delete(c.values, canonical(key))
		return
	}
	c.values[canonical(key)] = slices.Clone(values)
}

// Get returns the values of key; none if it is unknown.
func (c *Context) Get(key string) []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.values[canonical(key)])
}

// Clone returns a copy that can be changed alone.
func (c *Context) Clone() *Context {
	if c == nil {
		return &Context{}
	}
	return &Context{maps.Clone(c.values)}
}

func canonical(key string) string {
	name, rest, bracket := strings.Cut(key, "[")
	if bracket {
		return strings.ToLower(name) + "[" + rest
	}
	return strings.ToLower(name)
}

// view is a context as one evaluation sees it, which notes what it lacked.
type view struct {
	context *Context
	missing map[string]bool // keys as policies spell them
}

func (v *view) values(key string) []string {
	if v.context == nil {
		return nil
	}
	return v.context.values[canonical(key)]
}

func (v *view) lacks(key string) { v.missing[key] = true }

// variable returns what stands for ${key}: only a key with one value, which is not too
// long, and of a certificate's only values without special characters (8.2).
func (v *view) variable(key string) (string, bool) {
	values := v.values(key)
	if len(values) == 0 {
		v.lacks(key)
	}
	if len(values) != 1 || utf8.RuneCountInString(values[0]) > valueCharsMax {
		return "", false
	}
	if strings.HasPrefix(canonical(key), certificatePrefix) && strings.ContainsAny(values[0], "*$+?#") {
		return "", false
	}
	return values[0], true
}
