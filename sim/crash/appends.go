package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// kinds are all kinds of events, by number.
func kinds() []messages.Kind {
	all := messages.AllKinds()
	slices.SortFunc(all, func(a, b messages.Kind) int { return cmp.Compare(a, b) })
	return all
}

// sample is an event of a kind with something in each of its fields.
func sample(kind messages.Kind, n int) (messages.Event, error) {
	event, err := messages.DecodeEvent(&messages.Record{Kind: kind, Schema: 1})
	if err != nil {
		return nil, err
	}
	m, ok := event.(interface{ ProtoReflect() protoreflect.Message })
	if !ok {
		return nil, fmt.Errorf("%s is no message", kind)
	}
	message := m.ProtoReflect()
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString(fmt.Sprintf("%s-%d", f.Name(), n))
		case protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes(fmt.Appendf(nil, "%s %d", f.Name(), n))
		case protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			v = protoreflect.ValueOfEnum(1)
		case protoreflect.Int64Kind:
			v = protoreflect.ValueOfInt64(int64(n) + 1)
		case protoreflect.Uint64Kind:
			v = protoreflect.ValueOfUint64(uint64(n) + 1)
		default:
			return nil, fmt.Errorf("%s: field %s is a %s: tell sample how to fill it", kind, f.Name(), f.Kind())
		}
		if f.IsList() {
			message.Mutable(f).List().Append(v)
		} else {
			message.Set(f, v)
		}
	}
	return event, nil
}

// append makes an event of a kind happen on the log alone. The same request has the same
// event id, as an append that is repeated has.
func (n *node) append(o order) error {
	event, err := sample(o.Kind, o.N)
	if err != nil {
		return err
	}
	body, schema, err := messages.EncodeEvent(event)
	if err != nil {
		return err
	}
	stream := messages.DeviceStream(messages.ThingName(fmt.Sprintf("thing-%d", o.N)))
	id := sha256.Sum256([]byte(o.Request))
	version, err := n.store.Version(stream)
	if err != nil {
		return err
	}
	if o.Again && n.cfg.Bug != bugForgetsIDs {
		version = 0 // who repeats an append says what it expected then: each has a stream of its own
	} else if o.Again {
		id[0]++
	}
	b := eventlog.Batch{
		Stream: stream, Expected: version, At: messages.Instant{TrustMs: 1, WallMs: 1}, Cause: messages.Cause{Request: o.Request, Broker: "b"}, Class: eventlog.Class(o.Kind.Class()),
		Drafts: []eventlog.Draft{{ID: messages.EventID(id[:16]), Kind: o.Kind, Schema: schema, Critical: o.Kind.Critical(), Body: body}},
	}
	done := make(chan error, 1)
	n.appendTo(b, func(recs []messages.Record, err error) {
		if err == nil && o.Again { // found again, not applied again
			n.mu.Lock()
			n.mine[o.Request] = n.mine[o.Request][:0]
			for i := range recs {
				n.mine[o.Request] = append(n.mine[o.Request], ackOf(&recs[i]))
			}
			n.mu.Unlock()
		}
		done <- err
	})
	return <-done
}

// load appends from several workers, and says what was acknowledged, until it fails or has
// enough. It is what brokers, devices and an operator do to a log, without them.
func (n *node) load(o order) {
	if n.host != nil {
		n.host.load(o)
		return
	}
	var wg sync.WaitGroup
	for w := range max(o.N, 1) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(o.Seed, uint64(w)))
			for i := 0; o.Stop == 0 || i < o.Stop/max(o.N, 1); i++ {
				if err := n.loadOne(rng, fmt.Sprintf("load-%d-%d-%d", o.Seed, w, rng.IntN(6)), o.Bytes); err != nil {
					n.say(said{Op: "failed", Error: err.Error()})
					return
				}
			}
		})
	}
	wg.Wait()
	n.say(said{Op: "loaded"})
}

func (n *node) loadOne(rng *rand.Rand, name string, bytes int) error {
	stream := messages.DeviceStream(messages.ThingName(name))
	version, err := n.store.Version(stream)
	if err != nil {
		return err
	}
	all := kinds()
	b := eventlog.Batch{Stream: stream, Expected: version, At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts}
	for range 1 + rng.IntN(4) {
		kind := all[rng.IntN(len(all))]
		d := eventlog.Draft{Kind: kind, Schema: 1, Critical: kind.Critical(), Body: make([]byte, 20+rng.IntN(max(bytes, 400)))}
		binary.BigEndian.PutUint64(d.ID[:], rng.Uint64())
		binary.BigEndian.PutUint64(d.ID[8:], rng.Uint64())
		binary.BigEndian.PutUint64(d.Body, rng.Uint64())
		b.Drafts = append(b.Drafts, d)
	}
	return n.appendAndTell(b)
}

// appendAndTell appends, and says so when it is told.
func (n *node) appendAndTell(b eventlog.Batch) error {
	done := make(chan error, 1)
	n.appendTo(b, func(recs []messages.Record, err error) {
		if err == nil {
			n.tell(recs)
		}
		done <- err
	})
	return <-done
}

// tell says which records were acknowledged, in the short form.
func (n *node) tell(recs []messages.Record) {
	var line []byte
	for i := range recs {
		line = fmt.Appendf(line, "a %d %x\n", recs[i].Seq, recs[i].ID)
	}
	n.write(line)
}

// revoke takes away from o.N devices, one after the other, until the log has no more room
// or all are done. Reply is how many were acknowledged.
func (n *node) revoke(o order) said {
	s := said{Op: "revoked"}
	count := 0
	for i := range o.N {
		if n.host != nil {
			w := who{h: n.host, n: int(o.Seed)*1_000_000 + i}
			request := fmt.Sprintf("revoke-%d", w.n)
			err := n.host.command(w.quarantine(), request)
			if refusal, ok := errors.AsType[*messages.Refusal](err); ok && refusal.Code == messages.RefusedBusy {
				s.Error = err.Error()
				break
			}
			if err != nil {
				return said{Op: "revoked", Error: err.Error()}
			}
			n.host.tellMine(request)
			count++
			continue
		}
		event := &messages.DeviceQuarantined{Source: messages.Source_SOURCE_OPERATOR, Reason: "the disk is full"}
		body, schema, err := messages.EncodeEvent(event)
		if err != nil {
			return said{Op: "revoked", Error: err.Error()}
		}
		id := sha256.Sum256(fmt.Appendf(nil, "revoke %d %d", o.Seed, i))
		err = n.appendAndTell(eventlog.Batch{
			Stream: messages.DeviceStream(messages.ThingName(fmt.Sprintf("revoked-%d-%d", o.Seed, i))), At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts,
			Drafts: []eventlog.Draft{{ID: messages.EventID(id[:16]), Kind: event.Kind(), Schema: schema, Critical: true, Body: body}},
		})
		if errors.Is(err, eventlog.ErrFull) {
			s.Error = err.Error()
			break
		}
		if err != nil {
			return said{Op: "revoked", Error: err.Error()}
		}
		count++
	}
	s.Reply = fmt.Sprint(count)
	if count > 0 {
		s.Error = "" // there was room for some
	}
	return s
}

// grant appends what a full disk has no room for.
func (n *node) grant() error {
	stream := messages.DeviceStream("granted")
	version, err := n.store.Version(stream)
	if err != nil {
		return err
	}
	return n.appendAndTell(eventlog.Batch{
		Stream: stream, Expected: version, At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Grants,
		Drafts: []eventlog.Draft{{ID: messages.EventID{7, byte(version)}, Kind: messages.KindSessionOpened, Schema: 1}},
	})
}

// alien appends what a newer version might: o.N is its kind, o.Bytes its schema, and
// o.Again that it is critical.
func (n *node) alien(o order) error {
	stream := messages.DeviceStream("alien")
	version, err := n.store.Version(stream)
	if err != nil {
		return err
	}
	return n.appendAndTell(eventlog.Batch{
		Stream: stream, Expected: version, At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts,
		Drafts: []eventlog.Draft{{ID: messages.EventID{9, byte(version)}, Kind: messages.Kind(o.N), Schema: uint8(o.Bytes), Critical: o.Again, Body: []byte("?")}},
	})
}

// poison appends, past the host, a record of a kind whose body nobody can read to a device's
// stream.
func (n *node) poison(o order) error {
	stream := messages.DeviceStream(messages.ThingName(fmt.Sprintf("thing-%d", o.N)))
	version, err := n.store.Version(stream)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	n.store.Append(eventlog.Batch{
		Stream: stream, Expected: version, At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts,
		Drafts: []eventlog.Draft{{ID: messages.EventID{5, byte(o.N)}, Kind: o.Kind, Schema: 1, Critical: o.Kind.Critical(), Body: []byte{0xff}}},
	}, func(_ []messages.Record, err error) { done <- err })
	return <-done
}

// frames appends o.Stop events, o.N at a time, each time a frame of its own.
func (n *node) frames(o order) error {
	for at := 0; at < o.Stop; at += o.N {
		b := eventlog.Batch{Stream: messages.DeviceStream("frames"), Expected: uint64(at), At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts}
		for i := range o.N {
			kind := kinds()[(at+i)%len(kinds())]
			b.Drafts = append(b.Drafts, eventlog.Draft{ID: messages.EventID{1, byte(at + i)}, Kind: kind, Schema: 1, Critical: kind.Critical(), Body: fmt.Appendf(nil, "event %d", at+i)})
		}
		if err := n.appendAndTell(b); err != nil {
			return err
		}
	}
	return nil
}
