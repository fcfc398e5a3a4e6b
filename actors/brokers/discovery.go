package brokers

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// queueGroup is the group that micro services subscribe in (ADR-32).
const queueGroup = "q"

// subscribeDiscovery answers $SRV.{PING,INFO,STATS}, so that `nats service` shows the
// desk as the micro service it is. The wire types are the micro package's; its AddService
// is not used for two reasons. Its discovery answers to any reply subject, so whoever may
// ask could have the daemon write onto a broker's pushes (reliability spec R11). And a
// request of its kind must be answered before the handler returns: it reads the answer's
// error without a lock right after.
func (d *Desk) subscribeDiscovery() error {
	answers := map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: d.identity(), Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return d.Info() },
		micro.StatsVerb: func() any { return d.Stats() },
	}
	for _, verb := range []micro.Verb{micro.PingVerb, micro.InfoVerb, micro.StatsVerb} {
		for _, at := range [][2]string{{"", ""}, {authapi.ServiceName, ""}, {authapi.ServiceName, d.cfg.Instance}} {
			subject, err := micro.ControlSubject(verb, at[0], at[1])
			if err != nil {
				return fmt.Errorf("discovery: %w", err)
			}
			stop, err := d.cfg.Conn.Subscribe(subject, "", 0, d.discover(answers[verb]))
			if err != nil {
				return fmt.Errorf("subscribe %s: %w", subject, err)
			}
			d.subs = append(d.subs, stop)
		}
	}
	return nil
}

func (d *Desk) discover(answer func() any) nats.MsgHandler {
	return func(m *nats.Msg) {
		if err := authapi.CheckOperatorReply(m.Reply); err != nil {
			d.sampled(d.stray.Add(1), "discovery request dropped: it asks for a reply outside an operator's inbox", "subject", m.Subject, "error", err)
			return
		}
		body, err := json.Marshal(answer())
		if err == nil {
			err = d.cfg.Conn.Publish(m.Reply, body)
		}
		if err != nil {
			d.cfg.Log.Warn("discovery reply not sent", "subject", m.Subject, "error", err)
		}
	}
}

func (d *Desk) identity() micro.ServiceIdentity {
	return micro.ServiceIdentity{
		Name: authapi.ServiceName, ID: d.cfg.Instance, Version: d.cfg.Version,
		Metadata: map[string]string{
			"protocol":          "gatehouse.v1",
			"max_message_bytes": fmt.Sprint(authapi.MaxMessageBytes),
			"max_stale_ms":      fmt.Sprint(authapi.MaxStale.Milliseconds()),
		},
	}
}

// Info describes the service and its endpoints. Each endpoint names the JSON Schemas of
// its messages.
func (d *Desk) Info() micro.Info {
	info := micro.Info{
		ServiceIdentity: d.identity(), Type: micro.InfoResponseType,
		Description: "decides which client devices may connect, publish and subscribe",
	}
	for _, op := range authapi.Ops() {
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{
			Name: string(op), Subject: authapi.AllBrokers(op), QueueGroup: queueGroup,
			Metadata: map[string]string{
				"request_schema": authapi.SchemaID(string(op) + "-request"),
				"reply_schema":   authapi.SchemaID(string(op) + "-reply"),
				"error_schema":   authapi.SchemaID("error-reply"),
			},
		})
	}
	return info
}

// Stats returns the counts of every endpoint. A deny is not an error; the counters of
// allow and deny are in each endpoint's data.
func (d *Desk) Stats() micro.Stats {
	stats := micro.Stats{ServiceIdentity: d.identity(), Type: micro.StatsResponseType, Started: d.started}
	for _, c := range d.Counts() {
		e := &micro.EndpointStats{
			Name: string(c.Op), Subject: authapi.AllBrokers(c.Op), QueueGroup: queueGroup,
			NumRequests: int(c.answered()), NumErrors: int(c.errors()), LastError: lastError(c),
			ProcessingTime: c.time,
		}
		if n := c.answered(); n > 0 {
			e.AverageProcessingTime = c.time / time.Duration(n)
		}
		if data, err := json.Marshal(c); err == nil {
			e.Data = data
		}
		stats.Endpoints = append(stats.Endpoints, e)
	}
	return stats
}

// lastError spells the last error as micro services do, code first. The reason stays on
// this side of the wire.
func lastError(c OpCounts) string {
	if c.lastErr < 0 {
		return ""
	}
	code := messages.RefusalCode(c.lastErr)
	return authapi.MicroCode(code) + ":" + code.String()
}
