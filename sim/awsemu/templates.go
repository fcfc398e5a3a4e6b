package awsemu

import (
	"fmt"
	"regexp"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu/provisioning"
)

// The IoT control plane's operations on provisioning templates, of which those for
// just-in-time provisioning are emulated (cloud spec 4.1, 4.5).

var templateRoutes = []route{
	newRoute("CreateProvisioningTemplate", iot, "POST", "provisioning-templates", anything, (*Emulator).createTemplate),
	newRoute("DescribeProvisioningTemplate", iot, "GET", "provisioning-templates/*", templateARNOf, (*Emulator).describeTemplate),
	newRoute("UpdateProvisioningTemplate", iot, "PATCH", "provisioning-templates/*", templateARNOf, (*Emulator).updateTemplate),
	newRoute("DeleteProvisioningTemplate", iot, "DELETE", "provisioning-templates/*", templateARNOf, (*Emulator).deleteTemplate),
	newRoute("ListProvisioningTemplates", iot, "GET", "provisioning-templates", anything, (*Emulator).listTemplates),
}

func templateARN(name string) string {
	return "arn:aws:iot" + arnPrefix + "provisioningtemplate/" + name
}
func templateARNOf(parameters []string) string { return templateARN(parameters[0]) }

const (
	templatesMax           = 256 // AWS's for an account
	templatesOfPage        = 25
	templatesOfPageMax     = 250
	templateDescriptionMax = 500
	templateJITP           = "JITP"
)

var templateNameForm = regexp.MustCompile(`^[0-9A-Za-z_-]{1,36}$`)

// provisioningTemplate is a template of type JITP. It never changes in place.
type provisioningTemplate struct {
	Description string    `json:"description,omitempty" doc:"At most 500 bytes."`
	Body        string    `json:"templateBody" doc:"The template, JSON in a string."`
	Enabled     bool      `json:"enabled,omitempty" doc:"Devices are provisioned by it."`
	RoleARN     string    `json:"provisioningRoleArn" doc:"The role that AWS IoT provisions by. It need not exist here."`
	Created     time.Time `json:"creationDate"`
	Modified    time.Time `json:"lastModifiedDate"`
}

// checkTemplate says what is wrong with it.
func checkTemplate(name string, t *provisioningTemplate) *apiError {
	switch {
	case !templateNameForm.MatchString(name):
		return constraint("templateName", "Member must be 1 to 36 of [0-9A-Za-z_-]")
	case len(t.Description) > templateDescriptionMax:
		return constraint("description", fmt.Sprintf("Member must have length less than or equal to %d", templateDescriptionMax))
	case !roleARNForm.MatchString(t.RoleARN):
		return constraint("provisioningRoleArn", "Member must be the ARN of a role")
	}
	_, refused := readTemplate(t.Body)
	return refused
}

func readTemplate(body string) (*provisioning.Template, *apiError) {
	t, err := provisioning.Parse(body)
	if err != nil {
		return nil, badRequest("Invalid provisioning template: " + err.Error())
	}
	return t, nil
}

type templateRequest struct {
	Name        string  `json:"templateName"`
	Description *string `json:"description"`
	Body        string  `json:"templateBody"`
	Enabled     *bool   `json:"enabled"`
	RoleARN     *string `json:"provisioningRoleArn"`
	Type        string  `json:"type"`
	Hook        any     `json:"preProvisioningHook"`
	Version     *int    `json:"defaultVersionId"`
}

// applied is t as the request wants it.
func (q templateRequest) applied(t provisioningTemplate) *provisioningTemplate {
	if q.Description != nil {
		t.Description = *q.Description
	}
	if q.Enabled != nil {
		t.Enabled = *q.Enabled
	}
	if q.RoleARN != nil {
		t.RoleARN = *q.RoleARN
	}
	return &t
}

func (e *Emulator) createTemplate(c *call) (any, *apiError) {
	var request templateRequest
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	if request.Type != templateJITP || request.Hook != nil {
		return nil, badRequest("Of provisioning templates those of type JITP are emulated, without a preProvisioningHook")
	}
	made := request.applied(provisioningTemplate{Body: request.Body, Created: stamp(e.now()), Modified: stamp(e.now())})
	if refused := checkTemplate(request.Name, made); refused != nil {
		return nil, refused
	}
	refused := e.change(func(b *Batch) *apiError {
		switch {
		case b.r.templates[request.Name] != nil:
			return alreadyExists(fmt.Sprintf("Template %s already exists", request.Name), request.Name, templateARN(request.Name))
		case b.r.full(len(b.r.templates), templatesMax):
			return limitExceeded(fmt.Sprintf("The account has %d provisioning templates already", templatesMax))
		}
		put(b, b.r.templates, request.Name, made)
		return nil
	})
	return map[string]any{"templateName": request.Name, "templateArn": templateARN(request.Name), "defaultVersionId": 1}, refused
}

// onTemplate does something with a template that must exist.
func (e *Emulator) onTemplate(c *call, do func(b *Batch, name string, known *provisioningTemplate) *apiError) *apiError {
	name := c.parameters[0]
	return e.change(func(b *Batch) *apiError {
		known := b.r.templates[name]
		if known == nil {
			return noTemplate(name)
		}
		return do(b, name, known)
	})
}

func noTemplate(name string) *apiError {
	return noResource(fmt.Sprintf("Provisioning template %.36s not found", name))
}

type templateSummary struct {
	ARN         string `json:"templateArn"`
	Name        string `json:"templateName"`
	Description string `json:"description,omitempty"`
	Created     epoch  `json:"creationDate"`
	Modified    epoch  `json:"lastModifiedDate"`
	Enabled     bool   `json:"enabled"`
	Type        string `json:"type"`
}

func (t *provisioningTemplate) summary(name string) templateSummary {
	return templateSummary{templateARN(name), name, t.Description, epoch(t.Created), epoch(t.Modified), t.Enabled, templateJITP}
}

func (e *Emulator) describeTemplate(c *call) (any, *apiError) {
	var answer struct {
		templateSummary
		Version int    `json:"defaultVersionId"`
		Body    string `json:"templateBody"`
		RoleARN string `json:"provisioningRoleArn"`
	}
	refused := e.onTemplate(c, func(_ *Batch, name string, known *provisioningTemplate) *apiError {
		answer.templateSummary, answer.Version, answer.Body, answer.RoleARN = known.summary(name), 1, known.Body, known.RoleARN
		return nil
	})
	return answer, refused
}

func (e *Emulator) updateTemplate(c *call) (any, *apiError) {
	var request templateRequest
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	if request.Hook != nil || request.Version != nil && *request.Version != 1 {
		return nil, badRequest("A template has one version here, and no preProvisioningHook")
	}
	return none{}, e.onTemplate(c, func(b *Batch, name string, known *provisioningTemplate) *apiError {
		next := request.applied(*known)
		next.Modified = stamp(e.now())
		if refused := checkTemplate(name, next); refused != nil {
			return refused
		}
		put(b, b.r.templates, name, next)
		return nil
	})
}

func (e *Emulator) deleteTemplate(c *call) (any, *apiError) {
	return none{}, e.onTemplate(c, func(b *Batch, name string, _ *provisioningTemplate) *apiError {
		for _, a := range b.r.authorities() {
			if a.config.TemplateName == name {
				return deleteConflict(fmt.Sprintf("Template %s is what CA certificate %s provisions by", name, a.id))
			}
		}
		put(b, b.r.templates, name, nil)
		return nil
	})
}

func (e *Emulator) listTemplates(c *call) (any, *apiError) {
	p, refused := e.pageOf(c, templatesOfPage, templatesOfPageMax)
	if refused != nil {
		return nil, refused
	}
	found, more := []templateSummary{}, false
	_ = e.look(func(r *Registry) *apiError {
		var names []string
		names, more = behind(sortedKeys(r.templates), p.after, p.limit)
		for _, name := range names {
			found = append(found, r.templates[name].summary(name))
		}
		return nil
	})
	found, next := turn(e, p, found, more, func(t templateSummary) string { return t.Name })
	return struct {
		Templates []templateSummary `json:"templates"`
		NextToken string            `json:"nextToken,omitempty"`
	}{append([]templateSummary{}, found...), next}, nil
}
