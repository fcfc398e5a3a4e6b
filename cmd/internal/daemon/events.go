package daemon

import (
	"context"
	"errors"
	"sync"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// publishEvents sends each record, once it is durable, to those who may hear
// gatehouse.v1.events.>: a view for dashboards and alarms. Core NATS keeps nothing, so
// who must miss none reads the log.
func (d *Daemon) publishEvents(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	from := d.log.Head().Seq + 1
	var wg sync.WaitGroup
	wg.Go(func() {
		for rec, err := range d.log.Follow(ctx, from) {
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, eventlog.ErrClosed) {
					d.logger.Error("events are no longer published", "error", err)
				}
				return
			}
			d.publishEvent(&rec)
		}
	})
	d.onClose(func() {
		cancel()
		wg.Wait()
	})
	return nil
}

func (d *Daemon) publishEvent(rec *messages.Record) {
	line, err := pageLine(rec)
	if err == nil {
		err = d.conn.Publish(authapi.SubjectPrefix+"events."+rec.Kind.Name(), line)
	}
	if err != nil {
		d.logger.Debug("event not published", "seq", rec.Seq, "error", err)
	}
}
