package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// brokerName is the broker that asks.
const brokerName messages.BrokerID = "bench"

// echoSubject is one that the daemon may hear and the desk does not serve: the echo runs
// beside the desk with the same permissions.
const echoSubject = authapi.SubjectPrefix + "admin.echo"

// patience bounds what must never be waited for: a lost answer fails the run.
const patience = 10 * time.Second

// A core is Gatehouse from the log to the desk, put together as the daemon does, with a
// cloud that vouches for everyone while it can be reached; and the echo beside it.
type core struct {
	log     eventlog.Log
	views   *projections.Views
	machine actors.Clock
	clock   *actors.TrustClock
	sys     *actors.System
	server  *brokers.Server
	desk    *brokers.Desk
	pusher  *brokers.Pusher
	creds   []byte // of the broker

	broker *nats.Conn // asks the desk
	asker  *nats.Conn // asks the echo

	closers []func() error
}

// kindCloud says yes to every question.
type kindCloud struct{}

// Ask implements actors.Cloud.
func (kindCloud) Ask(_ messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	go done(messages.CloudAnswer{Verdict: messages.CloudConfirmed})
	return nil
}

// startCore opens a log in dir and everything above it, with policy in force. Close it.
func startCore(ctx context.Context, dir string, policy []byte, cloud actors.Cloud) (c *core, err error) {
	c = &core{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
			c = nil
		}
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := c.openCore(ctx, dir, policy, cloud, logger); err != nil {
		return c, fmt.Errorf("start core: %w", err)
	}
	if err := c.openDesk(ctx, logger); err != nil {
		return c, fmt.Errorf("start desk: %w", err)
	}
	if err := c.openEcho(); err != nil {
		return c, fmt.Errorf("start echo: %w", err)
	}
	return c, nil
}

func (c *core) onClose(f func() error) { c.closers = append(c.closers, f) }

func (c *core) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}

func (c *core) openCore(ctx context.Context, dir string, policy []byte, cloud actors.Cloud, logger *slog.Logger) error {
	c.views = projections.New(logger)
	var err error
	if c.log, err = openLog(dir, c.views.Apply, logger); err != nil {
		return err
	}
	c.onClose(c.log.Close)
	clock, err := actors.NewSystemClock()
	if err != nil {
		return err
	}
	c.machine = clock
	c.clock = actors.NewTrustClock(clock, actors.Anchor{})
	c.sys, err = actors.New(actors.Config{Log: c.log, Views: c.views, Cloud: cloud, Clock: c.clock, Logger: logger})
	if err != nil {
		return err
	}
	c.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return c.sys.Close(ctx)
	})
	c.views.Live(projections.Hooks{})
	// A million sessions, so that none is evicted within a round, and a day of trust, so that
	// none lapses: neither is measured.
	if err := c.replace(ctx, messages.ReplaceConfig{Document: []byte(`{"performance": {"maxActiveAuthTokens": 1000000}, "security": {"clientDeviceTrustDurationMinutes": 1440}}`), Origin: "bench"}); err != nil {
		return err
	}
	return c.replace(ctx, messages.ReplacePolicy{Document: policy, Origin: "bench"})
}

// replace puts a document in force.
func (c *core) replace(ctx context.Context, order messages.Command) error {
	reply, err := c.sys.Do(ctx, order, messages.Cause{})
	if err != nil {
		return err
	}
	if replaced, ok := reply.(messages.Replaced); !ok || !replaced.Changed {
		return fmt.Errorf("%T was answered with %+v", order, reply)
	}
	return nil
}

func (c *core) openDesk(ctx context.Context, logger *slog.Logger) error {
	var err error
	if c.server, err = brokers.StartServer(brokers.ServerConfig{Listen: "127.0.0.1:0", Log: logger}); err != nil {
		return err
	}
	c.onClose(func() error { c.server.Close(); return nil })
	daemon, err := c.server.DaemonConn()
	if err != nil {
		return err
	}
	c.onClose(func() error { daemon.Close(); return nil })
	denials := actors.NewDenials(c.sys, c.views.Known)
	g := gate.New(c.sys, c.views, c.clock, denials)
	c.desk, err = brokers.OpenDesk(brokers.DeskConfig{Conn: brokers.OnNATS(daemon), Gate: g, Log: logger, Instance: "bench"})
	if err != nil {
		return err
	}
	c.onClose(func() error { return c.desk.Close(context.Background()) })
	if err := c.startPusher(daemon, logger); err != nil {
		return err
	}
	creds, err := brokers.NewBrokerCredentials(brokerName)
	if err != nil {
		return err
	}
	c.creds = creds.File()
	if err := c.server.AddBroker(brokerName, creds.Public); err != nil {
		return err
	}
	c.broker, err = c.dial(c.creds, brokerName)
	c.desk.SetReady(true)
	return err
}

// startPusher sends the heartbeats without which a broker's client trusts no copy.
func (c *core) startPusher(daemon *nats.Conn, logger *slog.Logger) error {
	var err error
	if c.pusher, err = brokers.NewPusher(brokers.PusherConfig{Conn: daemon, Epoch: "bench", Log: logger}); err != nil {
		return err
	}
	c.pusher.AddBroker(brokerName)
	ctx, cancel := context.WithCancel(context.Background())
	ticker := time.NewTicker(authapi.HeartbeatInterval)
	var wg sync.WaitGroup
	wg.Go(func() { c.pusher.Run(ctx, ticker.C) })
	c.onClose(func() error {
		cancel()
		ticker.Stop()
		wg.Wait()
		return nil
	})
	return nil
}

// openEcho starts the reference service: another connection in process, as the desk's,
// that may do what the desk's may; and its client, over TCP, as the broker's.
func (c *core) openEcho() error {
	conn, err := c.server.DaemonConn()
	if err != nil {
		return err
	}
	c.onClose(func() error { conn.Close(); return nil })
	// The service's name is the daemon's, since its user may only answer for that one.
	echo, err := micro.AddService(conn, micro.Config{Name: authapi.ServiceName, Version: "0.0.0"})
	if err != nil {
		return err
	}
	c.onClose(echo.Stop)
	answer := micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }) // the asker misses what is not sent
	if err := echo.AddEndpoint("echo", answer, micro.WithEndpointSubject(echoSubject)); err != nil {
		return err
	}
	creds, err := brokers.NewOperatorCredentials(authapi.OperatorAdmin)
	if err != nil {
		return err
	}
	if err := c.server.AddOperator(authapi.OperatorAdmin, creds.Public); err != nil {
		return err
	}
	if c.asker, err = c.dial(creds.File(), authapi.OperatorAdmin); err != nil {
		return err
	}
	return conn.FlushTimeout(patience)
}

// dial connects over TCP as any broker would.
func (c *core) dial(creds []byte, name messages.BrokerID) (*nats.Conn, error) {
	conn, err := nats.Connect(c.server.URL(), nats.UserCredentialBytes(creds), nats.CustomInboxPrefix(authapi.InboxPrefix(name)), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", name, err)
	}
	c.onClose(func() error { conn.Close(); return nil })
	return conn, nil
}
