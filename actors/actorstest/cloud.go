package actorstest

import (
	"errors"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// ErrQueueFull is what a full Cloud says to a question.
var ErrQueueFull = errors.New("actorstest: the queue to the cloud is full")

// Cloud answers the two questions about a device from a registry. It answers before Ask
// returns, unless it holds back. Safe for concurrent use.
type Cloud struct {
	mu       sync.Mutex
	active   map[messages.CertificateID]bool
	attached map[attachment]bool
	silent   bool
	full     bool
	busy     bool
	failure  messages.CloudFailure
	held     bool
	waiting  []func()
	asked    []messages.CloudQuestion
	twice    bool
	answers  []messages.CloudVerdict // scripted: they go first
	date     func() time.Time        // nil: answers do not say
}

type attachment struct {
	thing       messages.ThingName
	certificate messages.CertificateID
}

// NewCloud makes a cloud that knows nobody.
func NewCloud() *Cloud {
	return &Cloud{active: map[messages.CertificateID]bool{}, attached: map[attachment]bool{}}
}

// Register makes a certificate active and attaches it to things.
func (c *Cloud) Register(id messages.CertificateID, things ...messages.ThingName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active[id] = true
	for _, t := range things {
		c.attached[attachment{t, id}] = true
	}
}

// Attach attaches a certificate to a thing, active or not.
func (c *Cloud) Attach(thing messages.ThingName, id messages.CertificateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached[attachment{thing, id}] = true
}

// Revoke makes a certificate inactive; it stays attached.
func (c *Cloud) Revoke(id messages.CertificateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.active, id)
}

// Detach takes a certificate from a thing.
func (c *Cloud) Detach(thing messages.ThingName, id messages.CertificateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attached, attachment{thing, id})
}

// SetSilent says whether questions get no usable answer.
func (c *Cloud) SetSilent(silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = silent
}

// SetFull says whether questions are turned away.
func (c *Cloud) SetFull(full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = full
}

// SetBusy says whether questions are turned away with Busy.
func (c *Cloud) SetBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

// SetFailure makes questions get no answer for that reason; FailureNone ends it.
func (c *Cloud) SetFailure(why messages.CloudFailure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent, c.failure = why != messages.FailureNone, why
}

// SetTwice makes a cloud that breaks its promise: it answers every question twice.
func (c *Cloud) SetTwice(twice bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.twice = twice
}

// Script makes the next questions get these verdicts, whatever the registry says.
func (c *Cloud) Script(verdicts ...messages.CloudVerdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, verdicts...)
}

// SetTime gives answers a date; nil: none.
func (c *Cloud) SetTime(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.date = now
}

// Hold keeps answers back until Release. They are judged when they are asked.
func (c *Cloud) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

// Release gives the answers that were held back, first asked first, and holds back no
// more. It returns how many they were.
func (c *Cloud) Release() int {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting, c.held = nil, false
	c.mu.Unlock()
	for _, answer := range waiting {
		answer()
	}
	return len(waiting)
}

// ReleaseAt gives one of the answers that are held back: 0 is the one asked first.
func (c *Cloud) ReleaseAt(i int) {
	c.mu.Lock()
	answer := c.waiting[i]
	c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
	c.mu.Unlock()
	answer()
}

// Waiting counts the answers that are held back.
func (c *Cloud) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// Asked lists the questions so far.
func (c *Cloud) Asked() []messages.CloudQuestion {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]messages.CloudQuestion(nil), c.asked...)
}

// Ask answers q, as actors.Cloud wants it.
func (c *Cloud) Ask(q messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	c.mu.Lock()
	if c.full {
		c.mu.Unlock()
		return ErrQueueFull
	}
	if c.busy {
		c.mu.Unlock()
		return &messages.Refusal{Code: messages.RefusedBusy, Reason: "busy", RetryAfter: time.Second}
	}
	c.asked = append(c.asked, q)
	a, twice := c.judge(q), c.twice
	if c.date != nil {
		a.Date = c.date().Truncate(time.Second)
	}
	answer := func() {
		done(a)
		if twice {
			done(a)
		}
	}
	held := c.held
	if held {
		c.waiting = append(c.waiting, answer)
	}
	c.mu.Unlock()
	if !held {
		answer()
	}
	return nil
}

func (c *Cloud) judge(q messages.CloudQuestion) messages.CloudAnswer {
	if len(c.answers) > 0 {
		v := c.answers[0]
		c.answers = c.answers[1:]
		return messages.CloudAnswer{Verdict: v, Detail: "scripted"}
	}
	yes := c.active[q.Certificate]
	if q.Thing != "" {
		yes = c.attached[attachment{q.Thing, q.Certificate}]
	}
	switch {
	case c.silent:
		return messages.CloudAnswer{Verdict: messages.CloudSilent, Detail: "unreachable", Failure: c.failure}
	case yes:
		return messages.CloudAnswer{Verdict: messages.CloudConfirmed}
	default:
		return messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: "ResourceNotFoundException"}
	}
}
