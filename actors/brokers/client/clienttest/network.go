package clienttest

import (
	"errors"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/natsmem"
)

// natsNetwork is a NATS server of this process.
type natsNetwork struct {
	options server.Options
	server  *server.Server
}

func (n *natsNetwork) start() error {
	options := n.options
	s, err := server.NewServer(&options)
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(startTimeout) {
		return errors.New("it does not start")
	}
	n.server = s
	n.options.Port = options.Port // what RANDOM_PORT became
	return nil
}

func (n *natsNetwork) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

func (n *natsNetwork) connect() (conn, error) {
	nc, err := nats.Connect(n.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(Beat), nats.ReconnectBufSize(-1))
	return natsConn{nc}, err
}

type natsConn struct{ *nats.Conn }

func (c natsConn) subscribe(subject string, hear nats.MsgHandler) error {
	if _, err := c.Subscribe(subject, hear); err != nil {
		return err
	}
	return c.Flush()
}

// memory is a server in memory.
type memory struct{ server *natsmem.Server }

func (m memory) start() error {
	m.server.Up()
	return nil
}

func (m memory) stop() { m.server.Down() }

func (m memory) connect() (conn, error) {
	return memoryConn{m.server.Connect(natsmem.Options{Name: "desk"})}, nil
}

type memoryConn struct{ *natsmem.Conn }

func (c memoryConn) subscribe(subject string, hear nats.MsgHandler) error {
	_, err := c.Subscribe(subject, "", 0, hear)
	return err
}
