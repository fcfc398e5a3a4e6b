package mochi_test

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
)

func TestWill(t *testing.T) {
	w := start(t, nil)
	w.devices["sensor-3"] = clienttest.Certificate(t, "sensor-3")
	w.desk.Trust("sensor-3", w.devices["sensor-3"].Certificate[0])
	later := func(cp *paho.Connect) {
		cp.WillMessage = &paho.WillMessage{Topic: "hall/later", Payload: []byte("later"), QoS: 1}
	}
	two := w.as("sensor-2")
	two.subscribe("hall/#")
	fence := func() {
		t.Helper()
		code(t, "fence", two.publish("hall/fence", "fence", 1), 0)
		two.expect("fence")
	}

	t.Run("connection lost", func(t *testing.T) {
		_ = w.as("sensor-1", will("hall/will", false)).conn.Close()
		two.expect("will")
		w.desk.WaitSessions(1)
	})
	t.Run("goodbye", func(t *testing.T) {
		if err := w.as("sensor-1", will("hall/will", false)).c.Disconnect(&paho.Disconnect{}); err != nil {
			t.Fatal(err)
		}
		w.desk.WaitSessions(1)
		fence()
	})
	mayFence := clienttest.Permit("mqtt:publish", "mqtt:topic:hall/fence")
	narrow := func(one *device) { // takes away the right to publish the will
		t.Helper()
		w.desk.SetPolicy(mayConnect, mayListen, mayFence)
		sent := 0
		refused := func(d *device) {
			t.Helper()
			eventually(t, "publish is refused", func() bool {
				reason := d.publish("hall/x", "x", 1)
				if reason == 0 {
					sent++
				}
				return reason == 0x87
			})
		}
		refused(two)
		if one != nil {
			refused(one)
		}
		for range sent { // what was accepted may arrive after its PUBACK
			two.expect("x")
		}
	}
	widen := func() {
		t.Helper()
		w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayTalk, mayListen)
		eventually(t, "publish is allowed", func() bool { return two.publish("hall/wide", "wide", 1) == 0 })
		two.expect("wide")
	}
	t.Run("not allowed any more", func(t *testing.T) {
		one := w.as("sensor-1", will("hall/will", false))
		narrow(one)
		_ = one.conn.Close()
		w.desk.WaitSessions(1)
		fence()
		widen()
	})
	t.Run("delayed and not allowed any more", func(t *testing.T) {
		_ = w.as("sensor-1", persistent, will("hall/will", false), delay(1)).conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		narrow(nil)
		w.desk.WaitSessions(1) // the will's time has come
		fence()
		widen()
	})
	t.Run("delayed", func(t *testing.T) {
		began := time.Now()
		_ = w.as("sensor-1", persistent, will("hall/will", true), delay(1)).conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		fence() // comes first
		two.expect("will")
		if d := time.Since(began); d < time.Second {
			t.Errorf("sent after %v, want 1s", d)
		}
		w.desk.WaitSessions(1)
		codes(t, "subscribe", two.subscribe("hall/will"), 1)
		two.expect("will") // it is retained
	})
	t.Run("delayed and back in time", func(t *testing.T) {
		_ = w.as("sensor-1", persistent, will("hall/will", false), delay(1)).conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		one := w.as("sensor-1", persistent)
		w.desk.WaitSessions(2) // the one that waited for the will is closed
		_ = one.c.Disconnect(&paho.Disconnect{})
		w.desk.WaitSessions(1)
		fence()
	})
	t.Run("delayed and replaced by a clean session", func(t *testing.T) {
		_ = w.as("sensor-1", persistent, will("hall/will", false), delay(60)).conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		one := w.as("sensor-1")
		two.expect("will")
		_ = one.c.Disconnect(&paho.Disconnect{})
		w.desk.WaitSessions(1)
	})
	t.Run("delayed and revoked", func(t *testing.T) {
		one := w.as("sensor-1", persistent, will("hall/will", false), delay(1))
		codes(t, "subscribe", one.subscribe("hall/#"), 1)
		_ = one.conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		w.desk.WaitSessions(2) // the will keeps its session
		w.desk.CloseSessions("sensor-1", "revoked")
		_ = w.as("sensor-3", persistent, later, delay(1)).conn.Close()
		two.expect("later") // its time comes after that of the will that must not be sent
		fence()
		back := w.as("sensor-1", persistent)
		if back.ack.SessionPresent {
			t.Error("the session of the one revoked goes on")
		}
		_ = back.c.Disconnect(&paho.Disconnect{})
		w.desk.WaitSessions(1)
	})
	t.Run("taken over", func(t *testing.T) {
		older := w.as("sensor-1", will("hall/will", false))
		newer := w.as("sensor-1")
		older.ends(0x8e)
		two.expect("will") // MQTT 5, 3.1.2.5: the connection was closed without a DISCONNECT of the client's
		_ = newer.c.Disconnect(&paho.Disconnect{})
		w.desk.WaitSessions(1)
	})
}
