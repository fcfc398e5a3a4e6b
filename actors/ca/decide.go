package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// errKnown says that an event would change nothing.
var errKnown = errors.New("known already")

// TextBytesMax bounds each text of an event.
const TextBytesMax = 500

// Decide takes a fact about authorities and certificates into the log if it fits what is
// there: nothing is issued that was not ordered, nothing delivered that was not issued, no
// serial number is used twice, and the newest authority is not retired. What is known
// already makes no event.
func Decide(b Book, in messages.Input) (messages.Decision, error) {
	note, ok := in.Command.(messages.Note)
	if !ok || note.Event == nil {
		return messages.Decision{}, fmt.Errorf("%s: unexpected command %T", messages.StreamCA, in.Command)
	}
	switch err := b.check(note.Event, in.At); {
	case errors.Is(err, errKnown):
		return messages.Decision{Reply: messages.Done{}}, nil
	case err != nil:
		return messages.Decision{Reply: messages.Refuse(messages.RefusedService, "%s: %v", note.Event.Kind(), err)}, nil
	}
	return messages.Decision{Events: []messages.Event{note.Event}, Reply: messages.Done{}}, nil
}

func (b Book) check(e messages.Event, at messages.Instant) error {
	switch e := e.(type) {
	case *messages.AuthorityCreated:
		return b.checkCreated(e)
	case *messages.AuthorityImported:
		return b.checkImported(e)
	case *messages.AuthorityUploaded:
		return b.checkKnowledge(e.AuthorityId, func(a Entry) bool { return a.UploadedMs != 0 })
	case *messages.AuthorityAnnounced:
		return b.checkKnowledge(e.AuthorityId, func(a Entry) bool { return a.AnnouncedMs != 0 })
	case *messages.AuthorityRetired:
		return b.checkRetired(e)
	case *messages.AuthorityRejected:
		if b.Rejected == (Rejection{e.CertificateUri, e.PrivateKeyUri, e.Reason}) {
			return errKnown
		}
		return checkTexts(e.CertificateUri, e.PrivateKeyUri, e.Reason)
	case *messages.CertificateOrdered:
		return b.checkOrdered(e, at)
	case *messages.CertificateIssued:
		return b.checkIssued(e)
	case *messages.CertificateDelivered:
		return b.checkDelivered(e)
	case *messages.ComponentWithdrawn:
		return b.checkWithdrawn(e)
	case *messages.HostAddressesChanged:
		return b.checkAddresses(e)
	}
	return fmt.Errorf("does not belong to %s", messages.StreamCA)
}

func (b Book) checkCreated(e *messages.AuthorityCreated) error {
	a, err := ParseAuthority(e.Der)
	if err != nil {
		return err
	}
	if a.Type() == "" || a.Type() != e.CaType {
		return fmt.Errorf("%w: a key of type %q, said to be %q", ErrAuthority, a.Type(), e.CaType)
	}
	if err := checkTexts(e.Reason); err != nil {
		return err
	}
	return b.checkNewest(a.ID(), [][]byte{e.Der})
}

func (b Book) checkImported(e *messages.AuthorityImported) error {
	a, err := ParseAuthority(e.Chain...)
	if err != nil {
		return err
	}
	if err := checkTexts(e.CertificateUri, e.PrivateKeyUri); err != nil {
		return err
	}
	if err := b.checkNewest(a.ID(), e.Chain); !errors.Is(err, errKnown) || b.Rejected == (Rejection{}) {
		return err
	}
	return nil // it can be used again
}

// checkNewest says whether the authority may become the newest.
func (b Book) checkNewest(id messages.CertificateID, chain [][]byte) error {
	n := len(b.Authorities)
	if n > 0 && b.Authorities[n-1].ID == id && slices.EqualFunc(b.Authorities[n-1].Chain, chain, bytes.Equal) {
		return errKnown
	}
	if n >= authoritiesMax && b.find(id) < 0 {
		return fmt.Errorf("%w: %d are in use at the same time, which is the most; the oldest goes when everything it signed has ended", ErrAuthority, n)
	}
	return nil
}

func (b Book) checkKnowledge(id string, has func(Entry) bool) error {
	a, ok := b.Entry(messages.CertificateID(id))
	switch {
	case !ok:
		return fmt.Errorf("authority %.80q is not in use", id)
	case has(a):
		return errKnown
	}
	return nil
}

func (b Book) checkRetired(e *messages.AuthorityRetired) error {
	switch i := b.find(messages.CertificateID(e.AuthorityId)); {
	case i < 0:
		return errKnown
	case i == len(b.Authorities)-1:
		return errors.New("the newest authority stays")
	}
	return checkTexts(e.Reason)
}

func (b Book) checkOrdered(e *messages.CertificateOrdered, at messages.Instant) error {
	if err := checkSubscriber(e.Subscriber); err != nil {
		return err
	}
	usage, err := ParseUsage(e.Usage)
	if err != nil {
		return err
	}
	if _, ok := b.Entry(messages.CertificateID(e.AuthorityId)); !ok {
		return fmt.Errorf("authority %.80q is not in use", e.AuthorityId)
	}
	if len(e.Serial) != 2*SerialBytes || strings.Trim(e.Serial, "0123456789abcdef") != "" {
		return fmt.Errorf("serial number %.80q, want %d hexadecimal digits", e.Serial, 2*SerialBytes)
	}
	if e.NotAfterMs <= at.TrustMs || e.NotBeforeMs >= e.NotAfterMs {
		return errors.New("it has ended")
	}
	if len(e.Names) > NamesMax {
		return fmt.Errorf("%d names, want at most %d", len(e.Names), NamesMax)
	}
	for _, h := range b.Holders { // older ones are 159 random bits away
		if h.Last.Serial == e.Serial || h.Ordered.Serial == e.Serial {
			return fmt.Errorf("serial number %s was used before", e.Serial)
		}
	}
	if _, ok := b.Holder(e.Subscriber, usage); !ok && len(Evolve(b, e, at).Holders) > holdersMax {
		return fmt.Errorf("there are %d subscribers, which is the most; they are forgotten %s after their last certificate has ended", holdersMax, ValidityMax)
	}
	if usage == Client && len(b.componentsBeside(e.Subscriber, at)) >= componentsMax {
		return fmt.Errorf("there are %d certificates of components that have not ended, which is the most; room is made as they end", componentsMax)
	}
	return checkTexts(append(slices.Clone(e.Names), e.Reason)...)
}

func (b Book) checkIssued(e *messages.CertificateIssued) error {
	i := b.order(e.Subscriber, e.Serial)
	if i < 0 {
		return fmt.Errorf("certificate %.80q of %.80q was not ordered", e.Serial, e.Subscriber)
	}
	c, err := x509.ParseCertificate(e.Der)
	if err != nil {
		return err
	}
	order := b.Holders[i].Ordered
	if SerialText(c) != e.Serial || c.Subject.CommonName != e.Subscriber || string(order.Authority) != e.AuthorityId ||
		c.NotBefore.UnixMilli() != order.NotBeforeMs || c.NotAfter.UnixMilli() != order.NotAfterMs {
		return fmt.Errorf("certificate %s is not the one that was ordered", e.Serial)
	}
	if _, ok := b.Entry(order.Authority); !ok {
		return fmt.Errorf("its authority %s was retired meanwhile", order.Authority)
	}
	return nil
}

func (b Book) checkDelivered(e *messages.CertificateDelivered) error {
	switch i := b.last(e.Subscriber, e.Serial); {
	case i < 0:
		return fmt.Errorf("certificate %.80q is not the last that was issued to %.80q", e.Serial, e.Subscriber)
	case b.Holders[i].Delivered:
		return errKnown
	}
	return nil
}

func (b Book) checkWithdrawn(e *messages.ComponentWithdrawn) error {
	if _, err := messages.ParseComponentName(e.Component); err != nil {
		return err
	}
	h, _ := b.Holder(e.Component, Client)
	if h.Ordered.Serial == "" && !slices.ContainsFunc(b.Components, func(c Component) bool { return c.Name == e.Component }) {
		return errKnown
	}
	return checkTexts(e.Reason)
}

func (b Book) checkAddresses(e *messages.HostAddressesChanged) error {
	const sourceBytesMax = 64
	if e.Source == "" || len(e.Source) > sourceBytesMax {
		return fmt.Errorf("source %.80q, want 1 to %d bytes", e.Source, sourceBytesMax)
	}
	if len(e.Addresses) > addressesMax {
		return fmt.Errorf("%d addresses, want at most %d", len(e.Addresses), addressesMax)
	}
	i := slices.IndexFunc(b.Sources, func(s Source) bool { return s.Name == e.Source })
	switch {
	case i >= 0 && slices.Equal(b.Sources[i].Addresses, e.Addresses), i < 0 && len(e.Addresses) == 0:
		return errKnown
	case i < 0 && len(b.Sources) >= sourcesMax:
		return fmt.Errorf("there are %d sources of addresses, which is the most", sourcesMax)
	}
	return checkTexts(e.Addresses...)
}

func checkTexts(texts ...string) error {
	for _, text := range texts {
		if len(text) > TextBytesMax {
			return fmt.Errorf("%.80q…: %d bytes, want at most %d", text, len(text), TextBytesMax)
		}
	}
	return nil
}
