package awsemu

import (
	"net/http"
	"time"
)

// The role by which Greengrass acts in the account (cloud spec 1.2): it looks client
// devices' certificates up by it, and without it verifies none.

const serviceRolePath = "greengrass/servicerole"

func noServiceRole() *apiError {
	return &apiError{status: http.StatusNotFound, name: "ResourceNotFoundException", message: "The service role is not associated with this account."}
}

func (e *Emulator) getServiceRole(*call) (any, *apiError) {
	e.registry.mu.RLock()
	role := e.registry.serviceRole
	e.registry.mu.RUnlock()
	if role.ARN == "" {
		return nil, noServiceRole()
	}
	return map[string]string{"AssociatedAt": role.Since.UTC().Format(time.RFC3339), "RoleArn": role.ARN}, nil
}

func (e *Emulator) associateServiceRole(c *call) (any, *apiError) {
	var request struct {
		Role string `json:"RoleArn"`
	}
	if refused := readRequest(c.body, &request); refused != nil {
		return nil, refused
	}
	if request.Role == "" {
		return nil, validation("RoleArn is missing")
	}
	now := e.now()
	if refused := e.change(func(b *Batch) *apiError { return b.setServiceRole(request.Role, now) }); refused != nil {
		return nil, refused
	}
	return map[string]string{"AssociatedAt": now.UTC().Format(time.RFC3339)}, nil
}

func (e *Emulator) disassociateServiceRole(*call) (any, *apiError) {
	now := e.now()
	if refused := e.change(func(b *Batch) *apiError { return b.setServiceRole("", now) }); refused != nil {
		return nil, refused
	}
	return map[string]string{"DisassociatedAt": now.UTC().Format(time.RFC3339)}, nil
}

// withServiceRole refuses what Greengrass needs its role for. It says nothing of the
// device: who asks learns neither a yes nor a no.
func withServiceRole(serve func(*Emulator, *call) (any, *apiError)) func(*Emulator, *call) (any, *apiError) {
	return func(e *Emulator, c *call) (any, *apiError) {
		if e.registry.ServiceRole() == "" {
			return nil, &apiError{
				status: http.StatusForbidden, name: "AccessDeniedException",
				message: "Greengrass is not authorized to assume the Service Role associated with this account.",
			}
		}
		return serve(e, c)
	}
}
