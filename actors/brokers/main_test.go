package brokers

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds that whatever was started has ended: desks, pushers, servers.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
