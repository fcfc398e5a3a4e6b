package client_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds that whatever was started has ended: clients, desks and NATS.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
