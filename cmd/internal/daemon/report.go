package daemon

import (
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// ConfigReport says which configuration and policy are in force, and what was refused.
type ConfigReport struct {
	// Section is the configuration in force, without its device groups, which may be longer
	// than a message.
	Section   config.Section   `json:"clientDeviceAuth"`
	Documents []DocumentReport `json:"documents"`
	// RestartFor lists the keys of gatehouse.yaml that differ from what the daemon runs
	// with, since they are read at its start only.
	RestartFor []string `json:"restartFor,omitempty"`
}

// DocumentReport says which document is in force, since which record of the log.
type DocumentReport struct {
	Document string     `json:"document"`         // clientDeviceAuth or deviceGroups
	Record   uint64     `json:"record,omitempty"` // 0: none was ever in force
	Since    *time.Time `json:"since,omitempty"`
	Revision string     `json:"revision,omitempty"`
	Origin   string     `json:"origin,omitempty"` // the file it came from
	Problem  *Problem   `json:"problem,omitempty"`
}

// Problem says why what a document's file holds is not in force.
type Problem struct {
	Record uint64    `json:"record,omitempty"` // of the rejection; 0: the file cannot be read
	Since  time.Time `json:"since"`
	Errors []string  `json:"errors"` // file:line:column: path: what is wrong; what to do
}

// documentsOf describes both documents. live is what a running daemon knows of their
// files; nil: it is stopped, and a rejection counts until something else is in force.
func documentsOf(v *projections.Views, live *documents) []DocumentReport {
	list := []DocumentReport{}
	for _, one := range []struct {
		name   string
		stream messages.StreamID
	}{{"clientDeviceAuth", messages.StreamConfig}, {"deviceGroups", messages.StreamPolicy}} {
		d := v.Document(one.stream)
		r := DocumentReport{Document: one.name, Record: d.Seq, Revision: d.Revision, Origin: d.Origin}
		if d.Seq != 0 {
			since := d.At.Wall()
			r.Since = &since
		}
		r.Problem = problemWith(d, one.stream, live)
		list = append(list, r)
	}
	return list
}

func problemWith(d projections.Document, stream messages.StreamID, live *documents) *Problem {
	if live != nil {
		p, bad := live.read(stream)
		switch {
		case !bad:
			return nil
		case !p.rejected:
			return &Problem{Since: p.since.UTC().Truncate(time.Millisecond), Errors: p.errors}
		}
	}
	if r := d.Rejected; r != nil {
		return &Problem{Record: r.Seq, Since: r.At.Wall(), Errors: r.Errors}
	}
	return nil
}

// StoredConfig reports from a stopped daemon's log.
func StoredConfig(s *Stored) ConfigReport {
	return ConfigReport{Section: withoutGroups(s.Views.Section()), Documents: documentsOf(s.Views, nil)}
}

func (d *Daemon) configReport(context.Context, struct{}) (ConfigReport, error) {
	return ConfigReport{
		Section: withoutGroups(d.views.Section()), Documents: documentsOf(d.views, &d.documents), RestartFor: d.documents.restartFor(),
	}, nil
}

func withoutGroups(s config.Section) config.Section {
	s.DeviceGroups = nil
	return s
}
