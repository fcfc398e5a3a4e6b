package messages

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
	"time"
)

// commands names for every command the entity it goes to and its lane.
var commands = []struct {
	command Command
	target  StreamID
	lane    Lane
}{
	{VerifyCertificate{Certificate: someDigest}, "certificate/" + someDigest, LaneRegister},
	{RunRefresh{}, StreamSync, LaneRestrict},
	{AssociationsListed{}, StreamSync, LaneRestrict},
	{AssociationsChanged{}, StreamSync, LaneRestrict},
	{Refreshed{}, StreamSync, LaneRestrict},
	{DropCertificate{Certificate: someDigest}, "certificate/" + someDigest, LaneRestrict},
	{RecheckCertificate{Certificate: someDigest}, "certificate/" + someDigest, LaneToken},
	{CloudAnswered{Then: OpenSession{Thing: "a"}}, "device/a", LaneRestrict},
	{CloudAnswered{Then: VerifyCertificate{Certificate: someDigest}}, "certificate/" + someDigest, LaneRestrict},
	{OpenSession{Thing: "a", Certificate: someDigest}, "device/a", LaneToken},
	{RecheckAttachment{Thing: "a", Certificate: someDigest}, "device/a", LaneToken},
	{CloseSession{Thing: "a"}, "device/a", LaneRestrict},
	{CloseSessions{Thing: "a", Certificate: someDigest}, "device/a", LaneRestrict},
	{OpenComponent{Component: "aws.Bridge"}, "component/aws.Bridge", LaneToken},
	{CloseSession{Component: "aws.Bridge"}, "component/aws.Bridge", LaneRestrict},
	{CloseSessions{Component: "aws.Bridge"}, "component/aws.Bridge", LaneRestrict},
	{QuarantineDevice{Thing: "a"}, "device/a", LaneRestrict},
	{ReleaseDevice{Thing: "a"}, "device/a", LaneRestrict},
	{ForgetDevice{Thing: "a"}, "device/a", LaneRestrict},
	{RecordDenial{Known: true, Denial: &AccessDenied{Thing: "a"}}, "device/a", LaneRegister},
	// A stranger's claimed name never becomes a stream.
	{RecordDenial{Denial: &AccessDenied{Thing: "../core/policy"}}, StreamStrangers, LaneRegister},
	{SettleRegistration{Thing: "a"}, "device/a", LaneRestrict},
	{AdmitPending{Thing: "a"}, "device/a", LaneRegister},
	{ConfirmPending{Thing: "a"}, "device/a", LaneToken},
	{WithdrawPending{Thing: "a"}, "device/a", LaneRestrict},
	{ReplacePolicy{}, StreamPolicy, LaneRestrict},
	{ReplaceConfig{}, StreamConfig, LaneRestrict},
	{RejectConfig{}, StreamConfig, LaneRestrict},
	{MarkClock{}, StreamClock, LaneRestrict},
	{ReanchorClock{}, StreamClock, LaneRestrict},
	{Note{Stream: StreamLifecycle, Event: &Started{}}, StreamLifecycle, LaneRestrict},
}

func TestCommandsNameTargetAndLane(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range commands {
		tested[reflect.TypeOf(c.command).Name()] = true
		if got := c.command.Target(); got != c.target {
			t.Errorf("%T goes to %q, want %q", c.command, got, c.target)
		}
		if got := c.command.Lane(); got != c.lane || got >= Lanes {
			t.Errorf("%T is in lane %d, want %d", c.command, got, c.lane)
		}
	}
	for _, path := range []string{"commands.go", "refresh.go", "clock.go", "register.go"} {
		for _, name := range typesWithMethod(t, path, "Target") {
			if !tested[name] {
				t.Errorf("command %s is missing in this test", name)
			}
		}
	}
}

// typesWithMethod lists the types that have a method of that name in the file.
func typesWithMethod(t *testing.T, path, method string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == method {
			names = append(names, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no method %s any more: mend this test", path, method)
	}
	return names
}

// TestDeriveEventID: the same decision gives the same ids (a repeated append is
// recognised), any other gives others, and an id says nothing of the nonce.
func TestDeriveEventID(t *testing.T) {
	nonce, other := [32]byte{1}, [32]byte{2}
	const first = "6b3b22e872cb933287fbbb2fb1410d06" // of SHA-256("gatehouse event" | nonce | index): in logs, so never another
	if id := DeriveEventID(nonce, 0); fmt.Sprintf("%x", id) != first {
		t.Errorf("the first id is %x, want %s", id, first)
	}
	seen := map[EventID]bool{}
	for _, id := range []EventID{DeriveEventID(nonce, 0), DeriveEventID(nonce, 1), DeriveEventID(nonce, 256), DeriveEventID(other, 0), EventID(nonce[:16])} {
		if seen[id] {
			t.Errorf("%x names two events", id)
		}
		seen[id] = true
	}
}

func TestRefusals(t *testing.T) {
	names := map[string]RefusalCode{}
	for c := range RefusalCode(RefusalCodes) {
		if before, taken := names[c.String()]; taken {
			t.Errorf("codes %d and %d are both called %s", before, c, c)
		}
		names[c.String()] = c
	}
	// The zero value and a code from nowhere are the least mild: Service.
	if new(Refusal).Code.String() != "Service" || RefusalCode(200).String() != "Service" {
		t.Errorf("the zero code is %s, code 200 is %s, want Service", new(Refusal).Code, RefusalCode(200))
	}
	var err error = Refuse(RefusedBusy, "%d waiting", 3)
	if got := err.Error(); got != "Busy: 3 waiting" {
		t.Errorf("the refusal reads %q", got)
	}
}

// TestForgottenVerdictIsSilence: an answer nobody filled in is no answer.
func TestForgottenVerdictIsSilence(t *testing.T) {
	if a := (CloudAnswer{Date: time.Unix(1, 0)}); a.Verdict != CloudSilent || a.Verdict.String() != "silent" {
		t.Errorf("the zero answer is %s", a.Verdict)
	}
	if all := strings.Join([]string{CloudConfirmed.String(), CloudDenied.String(), CloudVerdict(9).String()}, " "); all != "confirmed denied silent" {
		t.Errorf("verdicts are called %s", all)
	}
}
