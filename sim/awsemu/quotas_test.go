package awsemu_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// AWS's quotas can be lifted, and what came to be without them is read by an account that
// has them.
func TestQuotas(t *testing.T) {
	for _, lifted := range []bool{false, true} {
		w := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.QuotasLifted = lifted })
		got := w.api(t, w.admin(), "POST", "/things/pump-9", `{"attributePayload":{"attributes":{"a":"1","b":"1","c":"1","d":"1"}}}`)
		if (got.status == 200) != lifted {
			t.Errorf("lifted %v: four attributes: %d %s", lifted, got.status, got.text)
		}
		for i := range 11 {
			ca := awsemutest.NewAuthority(t, "factory", noon, nil)
			if _, err := w.registry.AddAuthority(ca.Certificate.Raw, noon, registering); (err == nil) != (lifted || i < 10) {
				t.Errorf("lifted %v: CA %d of a subject: %v", lifted, i, err)
			}
			policy := fmt.Sprintf("p-%d", i)
			wantReply(t, "policy", w.api(t, w.admin(), "POST", "/policies/"+policy, `{"policyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}]}"}`), 200, "")
			got := w.api(t, w.admin(), "PUT", "/target-policies/"+policy, `{"target":"`+awsemu.CertificateARN(w.pump.ID)+`"}`)
			if ok := lifted || i < 9; (got.status == 200) != ok || !ok && got.error() != "LimitExceededException" { // it has one already
				t.Errorf("lifted %v: policy %d of a certificate: %d %s", lifted, i, got.status, got.text)
			}
		}
		must[*awsemu.Registry](t)(awsemu.ReadRegistry(bytes.NewReader(must[[]byte](t)(w.registry.Encode()))))
	}
}

// Beyond so many requests a second an operation is throttled; others are not, and the next
// second has room again.
func TestThrottling(t *testing.T) {
	var mu sync.Mutex
	now := noon
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	w := newWorldAt(t, clock, func(c *awsemu.Config) { c.RequestsPerSecond = 3 })
	ask := func(target string) int {
		t.Helper()
		got := w.send(t, w.signed(t, w.admin(), "GET", target, ""))
		if got.status != 200 && got.error() != "ThrottlingException" {
			t.Errorf("%s: %d %s", target, got.status, got.text)
		}
		return got.status
	}
	const thing = "/things/pump-7"
	want := func(target string, statuses ...int) {
		t.Helper()
		for i, status := range statuses {
			if got := ask(target); got != status {
				t.Errorf("%s, request %d: %d, want %d", target, i, got, status)
			}
		}
	}
	want(thing, 200, 200, 200, 400, 400)
	want("/things/pump-7/principals", 200)
	want(devicesPath+"associatedClientDevices", 200, 200, 200, 429)
	pass(500 * time.Millisecond) // the Date is of the second before
	want(thing, 200, 400)
	pass(-500 * time.Millisecond) // back: as at first
	want(thing, 200, 200, 200, 400)
}
