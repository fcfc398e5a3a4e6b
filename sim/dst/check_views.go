package dst

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// differs says in what two read models differ; "" if they do not. What was to be taken away
// is, also where a full disk refused to put it on record (projections.Views.Abandon).
func differs(live, fresh *projections.Views, refused bool) string {
	if a, b := live.Counts(), fresh.Counts(); a != b {
		return fmt.Sprintf("%+v in use, %+v anew%s", a, b, differentSessions(live, fresh))
	}
	if a, b := live.Policy().Revision(), fresh.Policy().Revision(); a != b {
		return fmt.Sprintf("policy %.8s in use, %.8s anew", a, b)
	}
	if a, b := live.VoidedMs(), fresh.VoidedMs(); a != b && !(refused && a > b) {
		return fmt.Sprintf("trust voided before %d in use, %d anew", a, b)
	}
	if a, b := live.Section(), fresh.Section(); !reflect.DeepEqual(a, b) {
		return fmt.Sprintf("section %+v in use, %+v anew", a, b)
	}
	if a, b := live.Refresh(), fresh.Refresh(); !reflect.DeepEqual(a, b) {
		return fmt.Sprintf("refresh %+v in use, %+v anew", a, b)
	}
	if a, b := live.Held(), fresh.Held(); !reflect.DeepEqual(a, b) && !(refused && reflect.DeepEqual(a, voidedAs(a, b))) {
		return fmt.Sprintf("held in use %+v, anew %+v", a, b)
	}
	for _, name := range live.Things() {
		a, _ := live.Device(name)
		b, ok := fresh.Device(name)
		if !ok {
			return string(name) + " is in use, and is not anew"
		}
		sortAttachments(&a)
		sortAttachments(&b)
		if refused {
			for i := range min(len(a.Attachments), len(b.Attachments)) {
				voidAs(&b.Attachments[i].ConfirmedMs, a.Attachments[i].ConfirmedMs)
				voidAs(&b.Attachments[i].Trust.VerifiedMs, a.Attachments[i].Trust.VerifiedMs)
			}
		}
		if what := differentDevice(&a, &b); what != "" {
			return string(name) + ": " + what
		}
	}
	return ""
}

// voidedAs voids in b what is void in a.
func voidedAs(a, b messages.Held) messages.Held {
	for i := range min(len(a.Things), len(b.Things)) {
		for k := range min(len(a.Things[i].Attachments), len(b.Things[i].Attachments)) {
			voidAs(&b.Things[i].Attachments[k].ConfirmedMs, a.Things[i].Attachments[k].ConfirmedMs)
		}
	}
	for i := range min(len(a.Certificates), len(b.Certificates)) {
		voidAs(&b.Certificates[i].ConfirmedMs, a.Certificates[i].ConfirmedMs)
	}
	return b
}

func voidAs(ms *int64, as int64) {
	if as == messages.VoidMs {
		*ms = as
	}
}

// differentDevice compares devices whose attachments are sorted.
func differentDevice(a, b *projections.Device) string {
	switch {
	case a.Quarantined != b.Quarantined:
		return fmt.Sprintf("quarantined %q in use, %q anew", a.Quarantined, b.Quarantined)
	case !slices.Equal(a.Attachments, b.Attachments):
		return fmt.Sprintf("attachments %+v in use, %+v anew", a.Attachments, b.Attachments)
	case !reflect.DeepEqual(a.Pending, b.Pending):
		return fmt.Sprintf("pending %+v in use, %+v anew", a.Pending, b.Pending)
	case !slices.Equal(a.Groups, b.Groups):
		return fmt.Sprintf("groups %v in use, %v anew", a.Groups, b.Groups)
	}
	if x, y := digestsOf(a), digestsOf(b); !slices.Equal(x, y) {
		return fmt.Sprintf("%d sessions in use, %d anew, or others", len(x), len(y))
	}
	return ""
}

func sortAttachments(d *projections.Device) {
	slices.SortFunc(d.Attachments, func(x, y projections.Attachment) int { return cmp.Compare(x.Certificate, y.Certificate) })
}

func digestsOf(d *projections.Device) []messages.TokenDigest {
	list := make([]messages.TokenDigest, len(d.Sessions))
	for i, s := range d.Sessions {
		list[i] = s.Digest
	}
	slices.SortFunc(list, func(x, y messages.TokenDigest) int { return slices.Compare(x[:], y[:]) })
	return list
}

// differentSessions names a device whose sessions differ.
func differentSessions(live, fresh *projections.Views) string {
	for _, name := range slices.Concat(live.Things(), fresh.Things()) {
		a, _ := live.Device(name)
		b, _ := fresh.Device(name)
		if len(a.Sessions) != len(b.Sessions) {
			return fmt.Sprintf(", such as %s: %d and %d sessions", name, len(a.Sessions), len(b.Sessions))
		}
	}
	return ""
}
