package main

import (
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// exchangeOf makes token exchange of a file's settings; nil if no role is named. now is the
// time by which the provider's certificate is judged.
func exchangeOf(f config.File, now func() time.Time) (*daemon.TokenExchange, error) {
	c, t := f.Cloud, f.TokenExchange
	if c.RoleAlias == "" {
		return nil, nil
	}
	identity, err := tls.LoadX509KeyPair(c.Certificate, c.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("cloud.certificate, cloud.privateKey: %w", err)
	}
	roots, err := rootsOf(c.CA)
	if err != nil {
		return nil, fmt.Errorf("cloud.ca: %w", err)
	}
	x, err := newExchange(tokenexchange.ProviderConfig{
		Endpoint: c.CredentialEndpoint, RoleAlias: c.RoleAlias, Thing: messages.ThingName(c.ThingName), Identity: identity, Roots: roots,
		Timeout: c.RequestTimeout, ConnectTimeout: c.ConnectTimeout, Now: now,
	}, rulesOf(t))
	if err != nil {
		return nil, fmt.Errorf("cloud.roleAlias: %w", err)
	}
	cfg := &daemon.TokenExchange{Exchange: x, Endpoint: c.CredentialEndpoint, Listen: t.Listen, Directory: t.Directory, Region: c.Region}
	if cfg.Consumers, err = consumersOf(t.Consumers); err != nil {
		return nil, err
	}
	if cfg.Directory == "" && slices.ContainsFunc(cfg.Consumers, func(c tokenexchange.Consumer) bool { return c.UID != os.Geteuid() }) {
		cfg.Directory = config.DefaultTokenDirectory // the daemon's own directory is closed to them
	}
	return cfg, nil
}

// newExchange makes the parts of token exchange.
func newExchange(p tokenexchange.ProviderConfig, rules tokenexchange.Rules) (*tokenexchange.Exchange, error) {
	provider, err := tokenexchange.NewProvider(p)
	if err != nil {
		return nil, err
	}
	clock, err := actors.NewSystemClock()
	if err != nil {
		return nil, err
	}
	cache, err := tokenexchange.NewCache(tokenexchange.CacheConfig{Source: provider, Clock: clock, Chance: rand.Float64, Rules: rules})
	if err != nil {
		return nil, err
	}
	return tokenexchange.NewExchange(cache, clock, p.RoleAlias), nil
}

func rulesOf(t config.TokenExchange) tokenexchange.Rules {
	retry := t.CredentialRetryInSec
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return tokenexchange.Rules{
		RefreshBefore: t.RefreshBefore, ClientError: seconds(retry.ClientError), ServerError: seconds(retry.ServerError), UnknownError: seconds(retry.UnknownError),
	}
}

// consumersOf finds the users of consumers, who are in the order of their names.
func consumersOf(named map[string]config.TokenConsumer) ([]tokenexchange.Consumer, error) {
	var list []tokenexchange.Consumer
	for _, name := range slices.Sorted(maps.Keys(named)) {
		c := tokenexchange.Consumer{Name: name, UID: os.Geteuid(), AnyUser: named[name].AnyUser}
		if who := named[name].User; who != "" {
			uid, err := uidOf(who)
			if err != nil {
				return nil, fmt.Errorf("tokenExchange.consumers.%s.user: %w", name, err)
			}
			c.UID = uid
		}
		list = append(list, c)
	}
	return list, nil
}

// uidOf is the number of a user by name, or by number: then it need not be known here.
func uidOf(who string) (int, error) {
	text := who
	if known, err := user.Lookup(who); err == nil {
		text = known.Uid
	}
	uid, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("no user %.80q on this machine", who)
	}
	return int(uid), nil
}
