package main

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// recipes has one for every kind there is (TestEveryKindHasARecipe).
var recipes = map[messages.Kind]recipe{
	messages.KindCertificateVerified: {command: always(who.verify)},
	messages.KindCertificateRefused: {before: commands(who.verify, who.open), denied: true, command: always(func(w who) messages.Command {
		return messages.RecheckCertificate{Certificate: w.id()}
	})},
	messages.KindAttachmentVerified: {before: commands(who.verify), command: always(who.open)},
	messages.KindAttachmentWithdrawn: {before: commands(who.verify, who.open), denied: true, command: always(func(w who) messages.Command {
		return messages.RecheckAttachment{Thing: w.thing(), Certificate: w.id()}
	})},
	messages.KindDeviceForgotten: {before: commands(who.verify, who.open), command: always(func(w who) messages.Command {
		return messages.ForgetDevice{Thing: w.thing(), Source: messages.Source_SOURCE_OPERATOR, Reason: "crash"}
	})},
	messages.KindSessionOpened: {before: commands(who.verify, who.open), offline: true, command: always(who.open)},
	messages.KindSessionClosed: {before: commands(who.verify, who.open), command: always(func(w who) messages.Command {
		return messages.CloseSessions{Thing: w.thing(), Reason: messages.CloseReason_CLOSE_BY_BROKER}
	})},
	messages.KindAccessDenied: {command: always(func(w who) messages.Command {
		return messages.RecordDenial{Denial: &messages.AccessDenied{Thing: string(w.thing()), Operation: "authenticate", Reason: "crash"}}
	})},
	messages.KindDeviceQuarantined: {before: commands(who.verify, who.open), command: always(who.quarantine)},
	messages.KindDeviceReleased: {before: commands(who.quarantine), command: always(func(w who) messages.Command {
		return messages.ReleaseDevice{Thing: w.thing(), Source: messages.Source_SOURCE_OPERATOR, Reason: "crash"}
	})},
	messages.KindDeviceRegistered: {command: always(func(w who) messages.Command {
		return messages.SettleRegistration{Thing: w.thing(), Certificate: w.id(), Authority: w.id(), Accepted: true, Source: messages.Source_SOURCE_CLOUD, Rule: "all"}
	})},
	messages.KindDevicePending:        {offline: true, command: always(who.admit)},
	messages.KindPendingWithdrawn:     {before: nil, offline: true, command: withdrawPending},
	messages.KindPendingSessionOpened: {offline: true, command: admitAgain},

	messages.KindPolicyReplaced: {command: always(func(w who) messages.Command {
		return messages.ReplacePolicy{Document: []byte(policyText(w.n + 1)), Origin: "crash"}
	})},
	messages.KindConfigReplaced: {command: always(func(w who) messages.Command {
		return messages.ReplaceConfig{Document: fmt.Appendf(nil, `{"security":{"clientDeviceTrustDurationMinutes":%d}}`, 1000+w.n), Origin: "crash"}
	})},
	messages.KindConfigRejected: {command: always(func(w who) messages.Command {
		return messages.ReplaceConfig{Document: fmt.Appendf(nil, `{"security":{"clientDeviceTrustDurationMinutes":"%d"`, w.n), Origin: "crash"}
	})},

	messages.KindAuthorityCreated: {command: always(first(0))},
	messages.KindAuthorityImported: {command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.AuthorityImported{Chain: [][]byte{w.authority(0)}, CertificateUri: "file:crash", PrivateKeyUri: "file:crash"}
	})},
	messages.KindAuthorityUploaded: {before: commands(first(0)), command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.AuthorityUploaded{AuthorityId: w.authorityID(0)}
	})},
	messages.KindAuthorityAnnounced: {before: commands(first(0)), command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.AuthorityAnnounced{AuthorityId: w.authorityID(0), By: "crash"}
	})},
	messages.KindAuthorityRetired: {before: commands(first(0), first(1)), command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.AuthorityRetired{AuthorityId: w.authorityID(0), Reason: "crash"}
	})},
	messages.KindAuthorityRejected: {command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.AuthorityRejected{CertificateUri: fmt.Sprintf("file:%d", w.n), PrivateKeyUri: "file:crash", Reason: "crash"}
	})},
	messages.KindCertificateOrdered: {before: commands(who.base), command: always(who.ordered)},
	messages.KindCertificateIssued:  {before: commands(who.base, who.ordered), command: always(who.issued)},
	messages.KindCertificateDelivered: {before: commands(who.base, who.ordered, who.issued), command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.CertificateDelivered{Subscriber: w.subscriber(), Serial: w.serial()}
	})},
	messages.KindHostAddressesChanged: {command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.HostAddressesChanged{Source: "crash", Addresses: []string{fmt.Sprintf("host-%d.example", w.n)}}
	})},
	messages.KindComponentWithdrawn: {before: commands(who.base, func(w who) messages.Command {
		note := w.ordered().(messages.Note)
		note.Event.(*messages.CertificateOrdered).Usage = "CLIENT"
		return note
	}), command: noting(messages.StreamCA, func(w who) messages.Event {
		return &messages.ComponentWithdrawn{Component: w.subscriber(), Reason: "operator: crash"}
	})},

	messages.KindNetworkChanged: {command: noting(messages.StreamSync, func(who) messages.Event { return &messages.NetworkChanged{Up: true} })},
	messages.KindRefreshStarted: {command: always(begun)},
	messages.KindRefreshCompleted: {before: commands(begun), command: refreshed(func(ms int64) messages.Command {
		return messages.Refreshed{StartedMs: ms, Listed: 1}
	})},
	messages.KindRefreshFailed: {before: commands(begun), command: refreshed(func(ms int64) messages.Command {
		return messages.AssociationsListed{Of: messages.ListAssociations{StartedMs: ms}, List: messages.AssociationList{Detail: "crash"}}
	})},
	messages.KindRefreshPlanned: {before: commands(begun), command: refreshed(func(ms int64) messages.Command {
		return messages.AssociationsListed{
			Of: messages.ListAssociations{StartedMs: ms}, List: messages.AssociationList{Complete: true}, Guard: true,
			Held: messages.Held{Things: []messages.HeldThing{{Thing: "thing-0", Associated: true}}},
		}
	})},
	messages.KindAssociationChanged: {command: always(func(w who) messages.Command {
		return messages.AssociationsChanged{Changes: []*messages.AssociationChanged{{Thing: string(w.thing()), Associated: true}}}
	})},

	messages.KindClockMarked:     {command: always(mark)},
	messages.KindClockReanchored: {before: commands(mark), command: reanchor},
	messages.KindTrustVoided: {command: noting(messages.StreamClock, func(who) messages.Event {
		return &messages.TrustVoided{BeforeMs: 5, Reason: "crash"}
	})},
	messages.KindCredentialsServed: {command: noting(messages.StreamCredentials, func(w who) messages.Event {
		return &messages.CredentialsServed{Consumer: "crash", RoleAlias: "role", AccessKeyId: fmt.Sprint(w.n), Source: "cloud"}
	})},
	messages.KindStarted: {command: noting(messages.StreamLifecycle, func(w who) messages.Event {
		return &messages.Started{Version: "crash", Epoch: fmt.Sprint(w.n), Mode: "crash"}
	})},
	messages.KindStopped: {command: noting(messages.StreamLifecycle, func(w who) messages.Event {
		return &messages.Stopped{Epoch: fmt.Sprint(w.n), Reason: "crash"}
	})},
	messages.KindBrokerPermitted: {command: noting(messages.StreamBrokers, func(w who) messages.Event {
		return &messages.BrokerPermitted{Broker: w.subscriber(), Certificates: []string{"CLIENT", "SERVER"}}
	})},
	messages.KindBrokerRestricted: {command: noting(messages.StreamBrokers, func(w who) messages.Event {
		return &messages.BrokerRestricted{Broker: w.subscriber(), Certificates: []string{"SERVER"}}
	})},
}

// withdrawPending takes an admission back that it has made sure of: that takes a link that
// is down, and so is not done by before.
func withdrawPending(w who) (messages.Command, error) {
	c := messages.WithdrawPending{Thing: w.thing(), Certificate: w.id(), Source: messages.Source_SOURCE_OPERATOR, Reason: "crash"}
	if w.h.views.Known(w.thing()) {
		return c, nil
	}
	return c, w.h.command(w.admit(), "")
}

// admitAgain is a second session of a pending device.
func admitAgain(w who) (messages.Command, error) {
	if w.h.views.IsPending(w.thing(), w.id()) {
		return w.admit(), nil
	}
	return w.admit(), w.h.command(w.admit(), "")
}
