package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// TokenExchange says which local programs may have the credentials of Cloud.RoleAlias, and
// how they are kept (cloud spec 2, 3).
type TokenExchange struct {
	Listen string `json:"listen"` // 127.0.0.1 with a port; port 0: a free one
	// Directory holds a folder for each consumer, with its token. Empty: one in Dir if all
	// consumers are of the daemon's own user, else DefaultTokenDirectory.
	Directory            string                   `json:"directory,omitempty"`
	RefreshBefore        time.Duration            `json:"-"` // how long before their end newer ones are fetched
	CredentialRetryInSec CredentialRetry          `json:"credentialRetryInSec"`
	Consumers            map[string]TokenConsumer `json:"consumers,omitempty"` // by name; none: nobody but Gatehouse itself
}

// CredentialRetry is how long what the cloud said counts when it gave no credentials, in
// seconds, with the reference's names.
type CredentialRetry struct {
	ClientError  int `json:"clientError"`  // HTTP 4xx
	ServerError  int `json:"serverError"`  // HTTP 5xx
	UnknownError int `json:"unknownError"` // anything else, or nothing
}

// TokenConsumer is whose programs may have the credentials.
type TokenConsumer struct {
	User    string `json:"user,omitempty"`    // name or number; empty: the daemon's own
	AnyUser bool   `json:"anyUser,omitempty"` // programs of other users may show the token, too
}

// Bounds and defaults of token exchange. A role's credentials last 15 minutes at least.
const (
	DefaultTokenListen    = "127.0.0.1:0"
	DefaultTokenDirectory = "/run/gatehouse"
	DefaultRefreshBefore  = 5 * time.Minute
	refreshBeforeMin      = time.Minute
	refreshBeforeMax      = time.Hour
	retrySecondsMin       = 10
	retrySecondsMax       = 42900
	consumersMax          = 64
)

func defaultTokenExchange() TokenExchange {
	return TokenExchange{
		Listen: DefaultTokenListen, RefreshBefore: DefaultRefreshBefore,
		CredentialRetryInSec: CredentialRetry{ClientError: 120, ServerError: 60, UnknownError: 300},
	}
}

var (
	roleAliasPattern = regexp.MustCompile(`^[A-Za-z0-9_=,@-]{1,128}$`)
	consumerPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)
)

// ownConsumer is how records name what Gatehouse itself takes.
const ownConsumer = "gatehouse"

func (r *reader) tokenExchange(o object, c *TokenExchange) {
	const listen = "127.0.0.1 with a port, such as 127.0.0.1:0 for a free one"
	o.checked("listen", &c.Listen, listen, func(text string) bool {
		host, port, ok := splitHostPort(text)
		return ok && host == "127.0.0.1" && port != ""
	})
	o.string("directory", &c.Directory)
	o.durationWithin("refreshBefore", &c.RefreshBefore, refreshBeforeMin, refreshBeforeMax)
	retry := o.child("credentialRetryInSec", "clientError", "serverError", "unknownError")
	retry.within("clientError", &c.CredentialRetryInSec.ClientError, retrySecondsMin, retrySecondsMax)
	retry.within("serverError", &c.CredentialRetryInSec.ServerError, retrySecondsMin, retrySecondsMax)
	retry.within("unknownError", &c.CredentialRetryInSec.UnknownError, retrySecondsMin, retrySecondsMax)
	n, path := o.get("consumers")
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, quoted(n)+" stands where consumers are expected", "a mapping of their names", "")
		return
	}
	if len(n.Content)/2 > consumersMax {
		r.fail(KindValue, n, path, fmt.Sprintf("%d consumers", len(n.Content)/2), fmt.Sprintf("at most %d", consumersMax), "")
		return
	}
	c.Consumers = map[string]TokenConsumer{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		r.consumer(n.Content[i], n.Content[i+1], path, c.Consumers)
	}
}

func (r *reader) consumer(key, value *yaml.Node, path string, all map[string]TokenConsumer) {
	at := join(path, key.Value)
	_, twice := all[key.Value]
	switch {
	case key.Kind != yaml.ScalarNode || !consumerPattern.MatchString(key.Value):
		r.fail(KindValue, key, at, quoted(key)+" cannot be a consumer's name", "1 to 63 of a-z 0-9 _ . - that begin with a letter or digit", "")
		return
	case key.Value == ownConsumer:
		r.fail(KindConflict, key, at, "this name is Gatehouse's own", "another", "")
		return
	case twice:
		r.fail(policy.KindDuplicate, key, at, "this consumer was given before", "each once", "")
		return
	}
	var c TokenConsumer
	o := r.object(value, at, strict, "user", "anyUser")
	o.string("user", &c.User)
	o.flag("anyUser", &c.AnyUser)
	all[key.Value] = c
}

// checkTokenExchange finds what is missing between cloud and tokenExchange.
func (r *reader) checkTokenExchange(cloud, exchange object, c Cloud, t TokenExchange) {
	need := func(o object, key, reason, hint string) {
		if n, path := o.get(key); n == nil {
			r.fail(policy.KindMissing, o.node, path, "missing", "a value, since "+reason, hint)
		}
	}
	cloud.both("credentialEndpoint", "roleAlias")
	if c.RoleAlias != "" {
		for _, key := range []string{"region", "thingName", "certificate", "privateKey"} {
			need(cloud, key, "cloud.roleAlias is set", "the core gets the role's credentials by its own certificate, and programs are told the region")
		}
	}
	if c.Control.Credentials == CredentialsTokenExchange && c.RoleAlias == "" {
		need(cloud, "roleAlias", "cloud.control.credentials is "+CredentialsTokenExchange, "it names the role whose credentials they are")
	}
	if n, path := exchange.get("consumers"); n != nil && len(t.Consumers) > 0 && c.RoleAlias == "" {
		r.fail(KindConflict, n, path, "consumers without credentials", "cloud.roleAlias and cloud.credentialEndpoint", "they say where the credentials come from")
	}
}

// within reads a whole number from least to most.
func (o object) within(key string, value *int, least, most int) {
	expected := fmt.Sprintf("a whole number from %d to %d", least, most)
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	number, err := strconv.ParseUint(n.Value, 10, 31)
	if err != nil || number < uint64(least) || number > uint64(most) {
		o.r.fail(KindValue, n, path, quoted(n)+" cannot be used", expected, "")
		return
	}
	*value = int(number)
}

// durationWithin reads a Go duration from least to most.
func (o object) durationWithin(key string, value *time.Duration, least, most time.Duration) {
	expected := fmt.Sprintf("a duration with its unit, from %v to %v", least, most)
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < least || d > most {
		o.r.fail(KindValue, n, path, quoted(n)+" cannot be used", expected, "")
		return
	}
	*value = d
}

// flag reads true or false, and nothing that means the same elsewhere.
func (o object) flag(key string, value *bool) {
	word := strconv.FormatBool(*value)
	o.choice(key, &word, "true", "false")
	*value = word == "true"
}

// MarshalJSON prints the duration as it is written in the file.
func (t TokenExchange) MarshalJSON() ([]byte, error) {
	type plain TokenExchange // without this method
	return json.Marshal(struct {
		plain
		RefreshBefore string `json:"refreshBefore"`
	}{plain(t), t.RefreshBefore.String()})
}
