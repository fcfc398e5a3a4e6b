package dst

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"math"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// D2 of a fleet for whose read models there is no room twice: a digest of those in use is
// taken while they are there, and compared, when the world has ended, with that of what the
// log gives.

// digested is a digest of the read models in use; nil: they are not at rest.
func (o *observer) digested() *[sha256.Size]byte {
	c := o.core
	if c == nil || c.Views == nil || c.Quiet == nil || !c.Quiet() {
		return nil
	}
	d := viewsDigest(c.Views)
	return &d
}

// foldedApart folds the log anew and compares digests. The world has ended, and nothing of
// it is needed any more.
func (o *observer) foldedApart(log eventlog.Log) {
	if o.apart == nil {
		return
	}
	fresh := projections.New(nil)
	batch := make([]messages.Record, 0, 256)
	for rec, err := range log.Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			o.hold("D2", false, "the log cannot be read: %v", err)
			return
		}
		if batch = append(batch, rec); len(batch) == cap(batch) {
			fresh.Apply(batch)
			batch = batch[:0]
		}
	}
	fresh.Apply(batch)
	o.hold("D2", viewsDigest(fresh) == *o.apart, "folded anew, the log gives other read models: a smaller fleet (up to %d devices) says which", herdAbove)
}

// viewsDigest is a digest of what read models say.
func viewsDigest(v *projections.Views) (d [sha256.Size]byte) {
	h := sha256.New()
	e := json.NewEncoder(h)
	for _, part := range []any{v.Counts(), v.Policy().Revision(), v.VoidedMs(), v.Section(), v.Refresh()} {
		if err := e.Encode(part); err != nil {
			panic(err) // values of ours
		}
	}
	for _, name := range v.Things() {
		device, _ := v.Device(name)
		digestDevice(h, &device)
	}
	held := v.Held()
	for i := range held.Things {
		fmt.Fprintf(h, "%+v\n", held.Things[i])
	}
	for i := range held.Certificates {
		fmt.Fprintf(h, "%+v\n", held.Certificates[i])
	}
	h.Sum(d[:0])
	return d
}

func digestDevice(h hash.Hash, d *projections.Device) {
	sortAttachments(d)
	fmt.Fprintf(h, "%s %q %+v %v", d.Thing, d.Quarantined, d.Attachments, d.Groups)
	if d.Pending != nil {
		fmt.Fprintf(h, " %+v", *d.Pending)
	}
	for _, session := range digestsOf(d) {
		h.Write(session[:])
	}
}
