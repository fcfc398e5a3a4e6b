package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// startNATS starts the embedded server with its users, the desk (not ready yet) and the
// pushes.
func (d *Daemon) startNATS(ctx context.Context) error {
	err := d.knowUsers(ctx)
	if err != nil {
		return err
	}
	if err := d.connectNATS(); err != nil {
		return err
	}
	d.onClose(d.conn.Close)
	if err := d.startPusher(); err != nil {
		return err
	}
	d.courier, err = brokers.NewCourier(brokers.CourierConfig{
		Issuer: gate.NewIssuer(d.authority.Load(), mqttSubscriber), Pusher: d.pusher.Load(), Log: d.logger, Permit: d.mayHave,
	})
	if err != nil {
		return err
	}
	d.onClose(d.courier.Close)
	d.desk, err = brokers.OpenDesk(brokers.DeskConfig{
		Conn: brokers.OnNATS(d.conn),
		Gate: gate.New(d.sys, d.views, d.trust, d.denials), Courier: d.courier, Permit: d.mayAsk,
		Log: d.logger, Version: Version, Instance: d.epoch,
	})
	if err != nil {
		return err
	}
	d.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := d.desk.Close(ctx); err != nil {
			d.logger.Warn("desk closed with requests unanswered", "error", err)
		}
	})
	return nil
}

// connectNATS connects to the external server that is configured, or starts the
// embedded one with the users that are known.
func (d *Daemon) connectNATS() error {
	if n := d.cfg.NATS; n != nil {
		credentials, err := brokers.ParseCredentials(n.Credentials)
		if err != nil {
			return err
		}
		d.conn, err = brokers.Connect(brokers.ConnectConfig{URL: n.URL, Credentials: credentials, TLS: n.TLS, Log: d.logger})
		return err
	}
	server, err := brokers.StartServer(brokers.ServerConfig{
		Listen: d.cfg.NATSListen, TLS: d.cfg.NATSTLS, Log: d.logger,
		Admit: func(s *brokers.Server) error {
			return d.users.all(func(name, public string) error { return admit(s, name, public) })
		},
	})
	if err != nil {
		return err
	}
	d.server = server
	d.onClose(server.Close)
	d.conn, err = server.DaemonConn()
	return err
}

// knowUsers reads which operators and brokers there are, and makes those that the
// configuration wants.
func (d *Daemon) knowUsers(ctx context.Context) error {
	var err error
	if d.users, err = openUsers(d.cfg.Dir); err != nil {
		return err
	}
	for _, name := range []string{authapi.OperatorAdmin, authapi.OperatorAuditor, string(localBroker)} {
		if _, err := d.users.ensure(name); err != nil {
			return err
		}
	}
	for _, name := range d.cfg.Brokers {
		if err := d.permit(ctx, name, nil); err != nil { // whom the configuration lets in, nobody has removed
			return err
		}
		if _, err := d.users.ensure(string(name)); err != nil {
			return err
		}
	}
	return nil
}

// letIn lets the holder of a key act as name at the embedded server.
func (d *Daemon) letIn(name, public string) error {
	if d.server == nil {
		return nil // an external server has users of its own: `broker add` prints their entries
	}
	return admit(d.server, name, public)
}

func admit(s *brokers.Server, name, public string) error {
	switch name {
	case authapi.ServiceName:
		return nil // our own at an external server; the embedded one makes its own
	case authapi.OperatorAdmin, authapi.OperatorAuditor:
		return s.AddOperator(name, public)
	}
	return s.AddBroker(messages.BrokerID(name), public)
}

func (d *Daemon) startPusher() error {
	pusher, err := brokers.NewPusher(brokers.PusherConfig{Conn: d.conn, Epoch: d.epoch, Log: d.logger})
	if err != nil {
		return err
	}
	err = d.users.all(func(name, _ string) error {
		switch name {
		case authapi.ServiceName, authapi.OperatorAdmin, authapi.OperatorAuditor:
		default:
			pusher.AddBroker(messages.BrokerID(name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.pusher.Store(pusher)
	ctx, cancel := context.WithCancel(context.Background())
	ticker := time.NewTicker(authapi.HeartbeatInterval)
	var wg sync.WaitGroup
	wg.Go(func() { pusher.Run(ctx, ticker.C) })
	d.onClose(func() {
		cancel()
		ticker.Stop()
		wg.Wait()
	})
	return nil
}

// startMQTT starts the embedded broker. It is a broker like any other: it asks over
// NATS, in process, with credentials of its own.
func (d *Daemon) startMQTT(ctx context.Context) error {
	if d.cfg.MQTTListen == "" {
		return nil
	}
	creds, err := d.users.ensure(string(localBroker))
	if err != nil {
		return err
	}
	cfg := client.Config{Broker: localBroker, Credentials: creds.File(), Logger: d.logger}
	if d.server != nil {
		cfg.Options = append(cfg.Options, d.server.Local())
	} else {
		cfg.URL, cfg.TLS, cfg.RetryOnFailedConnect = d.cfg.NATS.URL, d.cfg.NATS.TLS, true
	}
	d.client, err = client.Connect(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect as broker %s: %w", localBroker, err)
	}
	d.onClose(func() { _ = d.client.Close() }) // what it could not close, the log knows
	d.mqtt, err = mochi.New(mochi.Config{
		Listen: d.cfg.MQTTListen, GetCertificate: d.certificate.GetCertificate, MinVersion: d.cfg.MQTTMinTLS, Client: d.client, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.onClose(func() { _ = d.mqtt.Close() })
	d.closeLeftOver()
	return nil
}

// hearTimeout is how long the start waits for an external NATS server to carry the first
// heartbeat.
const hearTimeout = 2 * time.Second

// hear waits until the embedded broker has heard us, or its first deliveries would wait. An
// external server that is down is no reason not to start: until it is there the broker
// refuses everybody.
func (d *Daemon) hear(ctx context.Context) error {
	if d.client == nil {
		return nil
	}
	d.pusher.Load().Beat()
	if d.server != nil {
		return d.client.Ready(ctx)
	}
	waiting, cancel := context.WithTimeout(ctx, hearTimeout)
	defer cancel()
	if err := d.client.Ready(waiting); err != nil {
		d.logger.Warn("the embedded MQTT broker does not hear the daemon yet", "error", err)
	}
	return ctx.Err()
}

// leftOverGrace is how long the embedded broker's sessions from before a crash wait for
// their devices to come back.
const leftOverGrace = time.Minute

// closeLeftOver ends, after a while, the embedded broker's sessions from before this
// start: their connections died with the process, and nobody else would close them.
func (d *Daemon) closeLeftOver() {
	left := d.views.SessionsOf(localBroker)
	if len(left) == 0 {
		return
	}
	stop := d.clock.AfterFunc(leftOverGrace, func() {
		d.closeSessions(left, "its connection ended with the former run of the embedded broker", messages.Cause{Broker: localBroker})
	})
	d.onClose(func() { stop() })
}
