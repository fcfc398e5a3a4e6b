package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// A recipe makes an event of one kind happen through the host: by a command that the
// deciders judge, as the daemon would give it.
type recipe struct {
	before  func(who) []messages.Command // what must be so before; not done again when the command is repeated
	command func(who) (messages.Command, error)
	offline bool // the link to the cloud is down
	denied  bool // the cloud says no
}

// who is whom an order is about: everything is derived from its number, so that a request
// can be repeated in another process.
type who struct {
	h *host
	n int
}

func (w who) thing() messages.ThingName { return messages.ThingName(fmt.Sprintf("thing-%d", w.n)) }
func (w who) der() []byte               { return fmt.Appendf(nil, "certificate %d", w.n) }
func (w who) id() messages.CertificateID {
	return messages.CertificateIDOf(w.der())
}

// span is what certificates are valid for.
var spanFrom, spanTo = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)

func (w who) verify() messages.Command {
	return messages.VerifyCertificate{Certificate: w.id(), DER: w.der(), NotBefore: spanFrom, NotAfter: spanTo, Subject: "CN=crash"}
}

func (w who) open() messages.Command {
	return messages.OpenSession{Thing: w.thing(), Certificate: w.id(), Broker: brokerID}
}

func (w who) admit() messages.Command {
	return messages.AdmitPending{
		Thing: w.thing(), Certificate: w.id(), DER: w.der(), Subject: "CN=crash", Authority: w.id(), Rule: "all",
		NotBeforeMs: spanFrom.UnixMilli(), NotAfterMs: spanTo.UnixMilli(), Broker: brokerID, Room: true,
	}
}

func (w who) quarantine() messages.Command {
	return messages.QuarantineDevice{Thing: w.thing(), Source: messages.Source_SOURCE_OPERATOR, Reason: "crash"}
}

// policyText lets every thing connect and publish to a; n makes it another document.
func policyText(n int) string {
	const group = `{"selectionRule":"thingName: thing-*","policyName":"p"}`
	return fmt.Sprintf(`{"definitions":{"things":%s,%q:%s},"policies":{"p":{"s%d":{"operations":["mqtt:connect","mqtt:publish"],
		"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}","mqtt:topic:a"]}}}}`, group, pendingGroup, group, n)
}

// authority is a certificate of an authority, the same whenever it is asked for.
func (w who) authority(i int) []byte {
	scalar := sha256.Sum256(fmt.Appendf(nil, "authority %d %d", w.n, i))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		panic(err) // one digest in 2^32 is no key
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(scalar[:16]), Subject: pkix.Name{CommonName: ca.AuthorityName}, NotBefore: spanFrom, NotAfter: spanTo,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key) // without chance: RFC 6979
	if err != nil {
		panic(err)
	}
	return der
}

func (w who) created(i int) messages.Command {
	return noteCA(&messages.AuthorityCreated{Der: w.authority(i), CaType: ca.TypeECDSAP256, Reason: "crash"})
}

// base creates the authority that all orders of a log are for: only eight can be in use.
func (w who) base() messages.Command { return who{h: w.h}.created(0) }

func (w who) authorityID(i int) string { return string(messages.CertificateIDOf(w.authority(i))) }

func (w who) subscriber() string { return fmt.Sprintf("broker-%d", w.n) }
func (w who) serial() string     { return fmt.Sprintf("%040x", w.n+1) }

func (w who) ordered() messages.Command {
	return noteCA(&messages.CertificateOrdered{
		Subscriber: w.subscriber(), Serial: w.serial(), Reason: ca.ReasonFirst, Names: []string{"localhost"},
		NotBeforeMs: spanFrom.UnixMilli(), NotAfterMs: spanTo.UnixMilli(), AuthorityId: who{}.authorityID(0), Usage: "SERVER",
	})
}

func (w who) issued() messages.Command {
	serial, _ := new(big.Int).SetString(w.serial(), 16)
	scalar := sha256.Sum256(fmt.Appendf(nil, "leaf %d", w.n))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: w.subscriber()}, NotBefore: spanFrom, NotAfter: spanTo}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return noteCA(&messages.CertificateIssued{Subscriber: w.subscriber(), Serial: w.serial(), Der: der, AuthorityId: who{}.authorityID(0)})
}

func noteCA(e messages.Event) messages.Command {
	return messages.Note{Stream: messages.StreamCA, Event: e}
}

// last finds the newest record of a kind.
func (w who) last(kind messages.Kind, oldest bool) (found messages.Record, err error) {
	err = fmt.Errorf("no %s is on record", kind)
	for rec, e := range w.h.n.store.Scan(context.Background(), 1, math.MaxUint64) {
		if e != nil {
			return rec, e
		}
		if rec.Kind == kind {
			if found, err = rec, nil; oldest {
				break
			}
		}
	}
	return found, err
}

// refreshed makes a command about the refresh that began last.
func refreshed(of func(startedMs int64) messages.Command) func(who) (messages.Command, error) {
	return func(w who) (messages.Command, error) {
		rec, err := w.last(messages.KindRefreshStarted, false)
		return of(rec.At.TrustMs), err
	}
}

// reanchor sets the clock to an hour before the first mark in the log: the same moment
// whenever it is asked for.
func reanchor(w who) (messages.Command, error) {
	rec, err := w.last(messages.KindClockMarked, true)
	if err != nil {
		return nil, err
	}
	event, err := messages.DecodeEvent(&rec)
	if err != nil {
		return nil, err
	}
	mark, ok := event.(*messages.ClockMarked)
	if !ok {
		return nil, errors.New("no mark")
	}
	return messages.ReanchorClock{OffsetMs: rec.At.TrustMs - mark.BootMs - time.Hour.Milliseconds(), Authority: "crash"}, nil
}

func always(f func(who) messages.Command) func(who) (messages.Command, error) {
	return func(w who) (messages.Command, error) { return f(w), nil }
}

func commands(list ...func(who) messages.Command) func(who) []messages.Command {
	return func(w who) []messages.Command {
		var all []messages.Command
		for _, f := range list {
			all = append(all, f(w))
		}
		return all
	}
}

func noting(stream messages.StreamID, of func(who) messages.Event) func(who) (messages.Command, error) {
	return func(w who) (messages.Command, error) { return messages.Note{Stream: stream, Event: of(w)}, nil }
}

func mark(w who) messages.Command {
	return messages.MarkClock{Mark: w.h.trust.Mark()}
}

func begun(who) messages.Command { return messages.RunRefresh{Force: true} }

func first(i int) func(who) messages.Command {
	return func(w who) messages.Command { return w.created(i) }
}
