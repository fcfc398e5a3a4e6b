package tokenexchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Recorder puts a hand-out on record, and returns when that is durable. It returns within a
// bound of its own.
type Recorder func(context.Context, *messages.CredentialsServed) error

// recordEvery bounds the records of one consumer: where each set is another, or the log could
// be filled by asking.
const recordEvery = time.Minute

// CodeNotRecorded says that a hand-out could not be put on record, so that there was none.
const CodeNotRecorded = "NotRecorded"

// Exchange hands out the credentials of a Cache, and keeps account of who got them. Safe for
// concurrent use.
type Exchange struct {
	cache *Cache
	clock Clock
	alias string

	mu     sync.Mutex
	record Recorder          // guarded by mu; nil: nobody records yet
	takers map[string]*taker // guarded by mu: by consumer
}

// taker is one consumer's account.
type taker struct {
	recording sync.Mutex    // held while a hand-out goes on record: what comes beside it waits
	keyID     string        // of the set on record; guarded by recording, as the next
	recorded  time.Duration // when; 0: never
	mu        sync.Mutex
	account   account // guarded by mu
}

type account struct {
	keyID       string // of the set it got last
	expiration  time.Time
	since, last time.Duration // when it got that set first, and last
	count       uint64        // of hand-outs
	unrecorded  uint64        // since its last record
}

// NewExchange returns an exchange over cache, for a role alias.
func NewExchange(cache *Cache, clock Clock, alias string) *Exchange {
	return &Exchange{cache: cache, clock: clock, alias: alias, takers: map[string]*taker{}}
}

// Record says who records, from now on. Without it nothing is handed out.
func (x *Exchange) Record(r Recorder) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.record = r
}

// HandOut gives consumer the credentials that are good now. The first hand-out of a set to a
// consumer is on record before this returns, unless the consumer's last record is under a
// minute old: then it is counted. consumer must be one of a closed list. The error
// is a *Failure, ErrClosed, or ctx's.
func (x *Exchange) HandOut(ctx context.Context, consumer string) (Credentials, error) {
	credentials, fetched, err := x.cache.Get(ctx)
	if err != nil {
		return Credentials{}, err
	}
	t, record := x.of(consumer)
	if err := x.note(ctx, t, record, consumer, credentials, fetched); err != nil {
		return Credentials{}, &Failure{Status: http.StatusServiceUnavailable, Code: CodeNotRecorded, Message: fmt.Sprintf("not handed out, since that cannot be put on record: %v", err)}
	}
	return credentials, nil
}

func (x *Exchange) of(consumer string) (*taker, Recorder) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.takers[consumer]
	if t == nil {
		t = &taker{}
		x.takers[consumer] = t
	}
	return t, x.record
}

func (x *Exchange) note(ctx context.Context, t *taker, record Recorder, consumer string, c Credentials, fetched bool) error {
	if record == nil {
		return errors.New("the daemon is not ready yet")
	}
	t.recording.Lock()
	defer t.recording.Unlock()
	now := x.clock.Boot()
	if c.AccessKeyID == t.keyID || t.recorded != 0 && now-t.recorded < recordEvery {
		t.count(c, now, true)
		return nil
	}
	event := &messages.CredentialsServed{
		Consumer: consumer, RoleAlias: x.alias, AccessKeyId: c.AccessKeyID, ExpiresMs: c.Expiration.UnixMilli(),
		Source: sourceOf(fetched), Repeats: t.unrecorded(),
	}
	if err := record(ctx, event); err != nil {
		return err
	}
	t.keyID, t.recorded = c.AccessKeyID, now
	t.count(c, now, false)
	return nil
}

func sourceOf(fetched bool) string {
	if fetched {
		return "cloud"
	}
	return "cache"
}

func (t *taker) unrecorded() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.account.unrecorded
}

// count counts a hand-out, which is on record unless it is a repeat.
func (t *taker) count(c Credentials, now time.Duration, repeat bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &t.account
	if a.keyID != c.AccessKeyID {
		a.keyID, a.expiration, a.since = c.AccessKeyID, c.Expiration, now
	}
	a.last = now
	a.count++
	a.unrecorded++
	if !repeat {
		a.unrecorded = 0
	}
}

// Taken says which credentials a consumer has got, without a secret.
type Taken struct {
	Consumer    string
	AccessKeyID string
	Expiration  time.Time
	SinceAgo    time.Duration // when it got them first, before now
	LastAgo     time.Duration // and last
	Count       uint64        // of its hand-outs since the start
}

// Taken lists the consumers that got any, by name.
func (x *Exchange) Taken() []Taken {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.clock.Boot()
	list := []Taken{}
	for name, t := range x.takers {
		t.mu.Lock()
		a := t.account
		t.mu.Unlock()
		if a.count > 0 {
			list = append(list, Taken{name, a.keyID, a.expiration, now - a.since, now - a.last, a.count})
		}
	}
	slices.SortFunc(list, func(a, b Taken) int { return cmp.Compare(a.Consumer, b.Consumer) })
	return list
}

// RoleAlias is whose credentials they are.
func (x *Exchange) RoleAlias() string { return x.alias }

// Cache is where they come from.
func (x *Exchange) Cache() *Cache { return x.cache }
