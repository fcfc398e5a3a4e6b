package daemon

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TokenExchange says which local programs get the role's credentials.
type TokenExchange struct {
	// Exchange hands them out. Its cache is started and closed with the daemon.
	Exchange *tokenexchange.Exchange
	Endpoint string // where they come from, to be shown
	// Consumers are the programs; none: nobody but the daemon itself, and nothing listens.
	Consumers []tokenexchange.Consumer
	Listen    string // 127.0.0.1 with a port
	Directory string // of the consumers' folders; empty: ConsumersDir
	Region    string
}

// ConsumersDir is where a daemon's directory has the folders of token exchange's consumers,
// unless they are elsewhere.
func ConsumersDir(dir string) string { return filepath.Join(dir, "consumers") }

// recordTimeout bounds how long a hand-out waits for the log.
const recordTimeout = 5 * time.Second

// fetchCredentials has the role's credentials fetched, and kept fresh from now on. It waits
// for nobody: the cloud may be away.
func (d *Daemon) fetchCredentials() {
	if d.cfg.TokenExchange == nil {
		return
	}
	x := d.cfg.TokenExchange.Exchange
	x.Record(func(ctx context.Context, e *messages.CredentialsServed) error {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		_, err := d.sys.Do(ctx, messages.Note{Stream: messages.StreamCredentials, Event: e}, messages.Cause{})
		return err
	})
	if c, ok := d.cloud.(*cloudsync.Cloud); ok {
		c.OnNetworkChange(func(up bool) {
			if up {
				x.Cache().Wake()
			}
		})
	}
	x.Cache().Start()
	d.onClose(x.Cache().Close)
}

// serveCredentials lets local programs ask for them.
func (d *Daemon) serveCredentials(context.Context) error {
	t, own := d.cfg.TokenExchange, filepath.Join(d.cfg.Dir, "tokens")
	if t == nil || len(t.Consumers) == 0 {
		return tokenexchange.Withdraw(own, d.consumersDir())
	}
	s, err := tokenexchange.Serve(tokenexchange.ServerConfig{
		Listen: t.Listen, Exchange: t.Exchange, Consumers: t.Consumers, Own: own, Shared: d.consumersDir(),
		Region: t.Region, Clock: d.clock, Log: d.logger,
		Denied: func(consumer, reason string) {
			d.denials.Note(actors.Denial{Operation: messages.OperationCredentials, Resource: consumer, Reason: reason}, messages.Cause{})
		},
	})
	if err != nil {
		return err
	}
	d.credentials = s
	d.onClose(s.Close)
	return nil
}

func (d *Daemon) consumersDir() string {
	if t := d.cfg.TokenExchange; t != nil && t.Directory != "" {
		return t.Directory
	}
	return ConsumersDir(d.cfg.Dir)
}

// Credentials describes the role's credentials, without a secret.
type Credentials struct {
	RoleAlias   string     `json:"roleAlias"` // empty: none is configured
	Endpoint    string     `json:"endpoint"`
	AccessKeyID string     `json:"accessKeyId,omitempty"` // absent: there are none that are good
	Since       *time.Time `json:"since,omitempty"`
	Until       *time.Time `json:"until,omitempty"`
	NextAt      *time.Time `json:"nextAt,omitempty"` // when newer ones are fetched
	// Problem says why the last question brought none; since when.
	Problem      string     `json:"problem,omitempty"`
	ProblemSince *time.Time `json:"problemSince,omitempty"`
}

// CredentialsReport says who gets the role's credentials, since and until when.
type CredentialsReport struct {
	Credentials
	URI       string           `json:"uri,omitempty"`       // where programs ask
	Directory string           `json:"directory,omitempty"` // of the consumers' folders
	Consumers []ConsumerReport `json:"consumers"`
}

// ConsumerReport is one consumer, and what it has got.
type ConsumerReport struct {
	Consumer    string     `json:"consumer"` // gatehouse: the daemon itself
	UID         *int       `json:"uid,omitempty"`
	AnyUser     bool       `json:"anyUser,omitempty"`
	AccessKeyID string     `json:"accessKeyId,omitempty"` // absent: it has got none since the start
	Since       *time.Time `json:"since,omitempty"`       // when it got them first
	Last        *time.Time `json:"last,omitempty"`        // and last
	Until       *time.Time `json:"until,omitempty"`
	HandOuts    uint64     `json:"handOuts"`
}

func (d *Daemon) credentialsNow() *Credentials {
	if d.cfg.TokenExchange == nil {
		return nil
	}
	x := d.cfg.TokenExchange.Exchange
	now, s := moment(d.trust.NowMs()), x.Cache().Status()
	c := &Credentials{RoleAlias: x.RoleAlias(), Endpoint: d.cfg.TokenExchange.Endpoint, AccessKeyID: s.AccessKeyID}
	if s.AccessKeyID != "" {
		c.Since, c.Until = ago(now, s.Age), &s.Expiration
	}
	if !s.Asking {
		c.NextAt = ago(now, -max(0, s.NextIn))
	}
	if s.Failure != nil {
		c.Problem, c.ProblemSince = s.Failure.Message, ago(now, s.FailedFor)
	}
	return c
}

func ago(now time.Time, d time.Duration) *time.Time {
	at := now.Add(-d).Truncate(time.Second)
	return &at
}

func (d *Daemon) credentialsReport(context.Context, struct{}) (CredentialsReport, error) {
	t := d.cfg.TokenExchange
	if t == nil {
		return CredentialsReport{Consumers: []ConsumerReport{}}, nil
	}
	r := CredentialsReport{Credentials: *d.credentialsNow(), Consumers: []ConsumerReport{}}
	if d.credentials != nil {
		r.URI, r.Directory = d.credentials.URL(), d.consumersDir()
	}
	now, at := moment(d.trust.NowMs()), map[string]int{}
	for i, c := range t.Consumers {
		at[c.Name] = i
		r.Consumers = append(r.Consumers, ConsumerReport{Consumer: c.Name, UID: &c.UID, AnyUser: c.AnyUser})
	}
	for _, taken := range t.Exchange.Taken() {
		i, known := at[taken.Consumer]
		if !known { // the daemon itself
			i = len(r.Consumers)
			r.Consumers = append(r.Consumers, ConsumerReport{Consumer: taken.Consumer})
		}
		one := &r.Consumers[i]
		one.AccessKeyID, one.Until, one.HandOuts = taken.AccessKeyID, &taken.Expiration, taken.Count
		one.Since, one.Last = ago(now, taken.SinceAgo), ago(now, taken.LastAgo)
	}
	return r, nil
}

// credentialWarnings says that there are none, or will be none.
func credentialWarnings(c *Credentials) []string {
	switch {
	case c == nil || c.Problem == "":
		return nil
	case c.Until != nil:
		return []string{fmt.Sprintf("the credentials of role alias %s end at %s, and no newer ones are to be had since %s: %s", c.RoleAlias, stamp(*c.Until), stamp(*c.ProblemSince), c.Problem)}
	default:
		return []string{fmt.Sprintf("there are no credentials of role alias %s since %s: %s", c.RoleAlias, stamp(*c.ProblemSince), c.Problem)}
	}
}

// credentialMetrics is nil where no credentials are handed out.
func (d *Daemon) credentialMetrics() *metrics.Credentials {
	if d.cfg.TokenExchange == nil {
		return nil
	}
	x := d.cfg.TokenExchange.Exchange
	s := x.Cache().Status()
	m := &metrics.Credentials{Left: s.Left, Fetches: map[string]uint64{"granted": s.Fetches.Granted, "refused": s.Fetches.Refused, "failed": s.Fetches.Failed}}
	for _, taken := range x.Taken() {
		m.HandOuts += taken.Count
	}
	if d.credentials != nil {
		m.Refused = d.credentials.Refusals()
	}
	return m
}

// StoredCredentials lists who got credentials last, from a stopped daemon's log.
func StoredCredentials(ctx context.Context, s *Stored) (CredentialsReport, error) {
	last := map[string]ConsumerReport{}
	r := CredentialsReport{Consumers: []ConsumerReport{}}
	for rec, err := range s.Log.Read(ctx, messages.StreamCredentials, 1) {
		if err != nil {
			return r, err
		}
		event, err := messages.DecodeEvent(&rec)
		if err != nil {
			return r, fmt.Errorf("record %d: %w", rec.Seq, err)
		}
		served, ok := event.(*messages.CredentialsServed)
		if !ok {
			continue // of a later version
		}
		at, until := rec.At.Wall(), moment(served.ExpiresMs)
		r.RoleAlias = served.RoleAlias
		last[served.Consumer] = ConsumerReport{
			Consumer: served.Consumer, AccessKeyID: served.AccessKeyId, Since: &at, Last: &at, Until: &until,
			HandOuts: last[served.Consumer].HandOuts + served.Repeats + 1,
		}
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		r.Consumers = append(r.Consumers, last[name])
	}
	return r, nil
}
