package registrar

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// cloud is AWS IoT as far as a registrar sees it, in memory.
type cloud struct {
	mu       sync.Mutex
	certs    map[messages.CertificateID]*Certificate
	attached map[messages.CertificateID][]string // policies
	things   map[messages.ThingName][]string     // principals
	policies map[string]string
	groups   map[string][]messages.ThingName
	core     []messages.ThingName
	listed   bool    // pending certificates are
	unread   *signer // whose are not

	calls []string
	// fail is asked before each call, and after it again: what it says then happens to the
	// answer alone.
	fail func(op string, after bool) error
	hang func(op string) // is called first, without the lock
}

func newCloud() *cloud {
	return &cloud{
		certs: map[messages.CertificateID]*Certificate{}, attached: map[messages.CertificateID][]string{},
		things: map[messages.ThingName][]string{}, policies: map[string]string{}, groups: map[string][]messages.ThingName{}, listed: true,
	}
}

func arnOf(id messages.CertificateID) string { return "arn:aws:iot:r:1:cert/" + string(id) }

func (c *cloud) do(op string, f func() error) error {
	if c.hang != nil {
		c.hang(op)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, op)
	if c.fail != nil {
		if err := c.fail(op, false); err != nil {
			return err
		}
	}
	err := f()
	if c.fail != nil {
		if lost := c.fail(op, true); lost != nil {
			return lost
		}
	}
	return err
}

func final(is error, format string, args ...any) error {
	return &Problem{Class: messages.FailureServer, Final: true, Detail: fmt.Sprintf(format, args...), Is: is}
}

func (c *cloud) Certificate(_ context.Context, id messages.CertificateID) (known Certificate, err error) {
	err = c.do("Certificate", func() error {
		if c.certs[id] == nil {
			return final(ErrNotThere, "no certificate")
		}
		known = *c.certs[id]
		return nil
	})
	return known, err
}

func (c *cloud) Register(_ context.Context, der, authorityDER []byte) error {
	return c.do("Register", func() error {
		id := messages.CertificateIDOf(der)
		if c.certs[id] != nil {
			return final(ErrThere, "registered")
		}
		c.certs[id] = &Certificate{ARN: arnOf(id), DER: der, Status: StatusInactive, Authority: messages.CertificateIDOf(authorityDER), Untouched: true}
		return nil
	})
}

func (c *cloud) SetStatus(_ context.Context, id messages.CertificateID, status string) error {
	return c.do("SetStatus", func() error {
		if c.certs[id].Status == StatusRevoked {
			return final(nil, "revoked")
		}
		c.certs[id].Status, c.certs[id].Untouched = status, false
		return nil
	})
}

func (c *cloud) Pending(_ context.Context, authority messages.CertificateID, marker string) (page []messages.CertificateID, next string, err error) {
	err = c.do("Pending", func() error {
		if c.unread != nil && authority == c.unread.id() {
			return &Problem{Class: messages.FailureRefused, Detail: "not allowed"}
		}
		if !c.listed {
			return nil
		}
		size := 2 + len(c.certs)/10
		for _, id := range slices.Sorted(maps.Keys(c.certs)) {
			if string(id) <= marker || c.certs[id].Authority != authority || c.certs[id].Status != StatusPending {
				continue
			}
			if len(page) == size {
				next = string(page[size-1])
				return nil
			}
			page = append(page, id)
		}
		return nil
	})
	return page, next, err
}

func (c *cloud) Principals(_ context.Context, thing messages.ThingName) (list []string, err error) {
	err = c.do("Principals", func() error {
		principals, ok := c.things[thing]
		if !ok {
			return final(ErrNotThere, "no thing")
		}
		list = slices.Clone(principals)
		return nil
	})
	return list, err
}

func (c *cloud) CreateThing(_ context.Context, plan registration.Plan) error {
	return c.do("CreateThing", func() error {
		if _, ok := c.things[plan.Thing]; !ok {
			c.things[plan.Thing] = nil
		}
		return nil
	})
}

func (c *cloud) AddToGroup(_ context.Context, thing messages.ThingName, group string) error {
	return c.do("AddToGroup", func() error {
		if !slices.Contains(c.groups[group], thing) {
			c.groups[group] = append(c.groups[group], thing)
		}
		return nil
	})
}

func (c *cloud) AttachThing(_ context.Context, thing messages.ThingName, arn string) error {
	return c.do("AttachThing", func() error {
		if !slices.Contains(c.things[thing], arn) {
			c.things[thing] = append(c.things[thing], arn)
		}
		return nil
	})
}

func (c *cloud) DetachThing(_ context.Context, thing messages.ThingName, arn string) error {
	return c.do("DetachThing", func() error {
		c.things[thing] = slices.DeleteFunc(c.things[thing], func(s string) bool { return s == arn })
		return nil
	})
}

func (c *cloud) Policy(_ context.Context, name string) (document string, err error) {
	err = c.do("Policy", func() error {
		var ok bool
		if document, ok = c.policies[name]; !ok {
			return final(ErrNotThere, "no policy")
		}
		return nil
	})
	return document, err
}

func (c *cloud) CreatePolicy(_ context.Context, name, document string) error {
	return c.do("CreatePolicy", func() error {
		if _, ok := c.policies[name]; ok {
			return final(ErrThere, "there")
		}
		c.policies[name] = document
		return nil
	})
}

func (c *cloud) AttachPolicy(_ context.Context, name, arn string) error {
	return c.do("AttachPolicy", func() error {
		id := messages.CertificateID(arn[len(arn)-64:])
		if _, ok := c.policies[name]; !ok {
			return final(ErrNotThere, "no policy %s", name)
		}
		if !slices.Contains(c.attached[id], name) {
			c.attached[id] = append(c.attached[id], name)
		}
		return nil
	})
}

func (c *cloud) Associate(_ context.Context, thing messages.ThingName) error {
	return c.do("Associate", func() error {
		if !slices.Contains(c.core, thing) {
			c.core = append(c.core, thing)
		}
		return nil
	})
}

// state prints all that is known, but for how often it was asked.
func (c *cloud) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	statuses := map[messages.CertificateID]string{}
	for id, known := range c.certs {
		statuses[id] = known.Status
	}
	return fmt.Sprint(statuses, c.attached, c.things, c.policies, c.groups, c.core)
}

func (c *cloud) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func (c *cloud) status(id messages.CertificateID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.certs[id] == nil {
		return ""
	}
	return c.certs[id].Status
}

var _ Cloud = (*cloud)(nil)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
