package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// startDaemon starts a daemon in dir that is reached in process, unless cfg says more.
func startDaemon(t *testing.T, dir string, cfg Config) *Daemon {
	t.Helper()
	cfg.Dir, cfg.Mode, cfg.CAType, cfg.Logger = dir, "dev", ca.TypeECDSAP256, slog.New(slog.DiscardHandler)
	cfg.MQTTHosts = []string{"localhost"}
	d, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// TestPagesOfDevices: what goes into a message is bounded, whatever is asked for; who reads
// the log himself gets all devices at once, and opens it once.
func TestPagesOfDevices(t *testing.T) {
	d := startDaemon(t, t.TempDir(), Config{})
	pump := func(i int) messages.ThingName { return messages.ThingName(fmt.Sprintf("pump-%03d", i)) }
	const devices = devicesPage + 1
	for i := range devices {
		if _, err := d.quarantine(t.Context(), DeviceRequest{Thing: pump(i), Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{0, -1, devices} {
		if page, err := d.devices(t.Context(), DevicesRequest{Limit: limit}); err != nil || len(page.Devices) != devicesPage || !page.More {
			t.Errorf("limit %d: %d devices and more: %v (%v), want %d and more", limit, len(page.Devices), page.More, err, devicesPage)
		}
	}
	last, err := d.devices(t.Context(), DevicesRequest{After: pump(devicesPage - 1)})
	if err != nil || len(last.Devices) != 1 || last.Devices[0].Thing != pump(devicesPage) || last.More {
		t.Errorf("the last page: %+v (%v)", last, err)
	}
	if all := ListDevices(d.views, d.sys.Trust(), d.trust.NowMs(), DevicesRequest{}); len(all.Devices) != devices || all.More {
		t.Errorf("stored: %d devices and more: %v, want %d at once", len(all.Devices), all.More, devices)
	}
}

// TestStatusWhileStarting: an operator who asks again and again while the daemon starts
// hears nothing, and then of the whole daemon.
func TestStatusWhileStarting(t *testing.T) {
	dir := t.TempDir()
	startDaemon(t, dir, Config{}).Close() // makes the administrator's credentials
	credentials, err := os.ReadFile(CredsFile(dir, authapi.OperatorAdmin))
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	first := make(chan Status, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		defer close(first)
		for ctx.Err() == nil {
			c, err := admin.Dial("nats://"+addr, authapi.OperatorAdmin, credentials, nil)
			if err != nil {
				continue // it does not listen yet, or does not know us
			}
			for ctx.Err() == nil {
				var s Status
				if err := c.Ask(ctx, OpStatus, nil, &s); err == nil {
					first <- s
					c.Close()
					return
				}
			}
			c.Close()
		}
	}()
	startDaemon(t, dir, Config{NATSListen: addr, MQTTListen: "127.0.0.1:0"})
	if s := <-first; s.MQTT == "" || s.NATS == "" {
		t.Errorf("the first status: %+v, want both addresses", s)
	}
}

// freeAddr finds a free address on loopback.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
