package mochi_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds that whatever was started has ended: brokers, clients and desks.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
