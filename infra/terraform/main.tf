# The same as template.yaml, made of the same files: events/patterns, policies, alarms.yaml and dashboard.json.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  patterns  = "${path.module}/../../events/patterns"
  packages  = var.packages == "" ? "${path.module}/../../target/lambda" : var.packages

  functions = {
    install-agent          = "Installs the Pod Identity agent and announces clusters as ready."
    reconcile-associations = "Makes the associations that role tags ask for, and withdraws the others."
    clean-up-orphans       = "Removes associations whose role is gone, and looks after roles whose clusters are."
  }

  has_own_key          = var.encryption == "customer"
  key_arn              = one(aws_kms_key.podgrant[*].arn)
  makes_access_entries = var.kubernetes == "on" && var.access_entries == "on"
  bus_arn              = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/${var.bus_name}"

  # One rule for each pattern file; its folder is the function that it wakes.
  rules = {
    for file in fileset(local.patterns, "*/*.json") :
    trimsuffix(replace(file, "/", "-"), ".json") => { function = dirname(file), file = file }
    if contains(keys(local.functions), dirname(file))
  }
}

# The bus

resource "aws_cloudwatch_event_bus" "podgrant" {
  name               = var.bus_name
  kms_key_identifier = local.key_arn
}

# This account and no other; which of its roles, their own policies say.
resource "aws_cloudwatch_event_bus_policy" "podgrant" {
  event_bus_name = aws_cloudwatch_event_bus.podgrant.name
  policy = templatefile("${path.module}/../policies/bus.json", {
    partition = local.partition
    account   = local.account
    bus_arn   = local.bus_arn
  })
}

resource "aws_cloudwatch_event_rule" "podgrant" {
  for_each = local.rules

  name           = "${var.name}-${each.key}"
  description    = "events/patterns/${each.value.file}"
  event_bus_name = aws_cloudwatch_event_bus.podgrant.name
  # Compacted, for a rule takes 2,048 characters.
  event_pattern = jsonencode(jsondecode(replace(file("${local.patterns}/${each.value.file}"), "\"podgrant/\"", jsonencode(var.tag_prefix))))
}

resource "aws_cloudwatch_event_target" "podgrant" {
  for_each = local.rules

  rule           = aws_cloudwatch_event_rule.podgrant[each.key].name
  event_bus_name = aws_cloudwatch_event_bus.podgrant.name
  target_id      = each.value.function
  arn            = aws_sqs_queue.podgrant[each.value.function].arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters[each.value.function].arn
  }
}

# The schedule

resource "aws_cloudwatch_event_rule" "sweep" {
  name                = "${var.name}-sweep"
  description         = "podgrant looks at the whole fleet. Events make it fast; this makes it right."
  schedule_expression = "rate(${var.sweep_minutes} minutes)"
}

resource "aws_cloudwatch_event_target" "sweep" {
  for_each = local.functions

  rule      = aws_cloudwatch_event_rule.sweep.name
  target_id = each.key
  arn       = aws_sqs_queue.podgrant[each.key].arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters[each.key].arn
  }

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }
}

# Queues

resource "aws_sqs_queue" "podgrant" {
  for_each = local.functions

  name                       = "${var.name}-${each.key}"
  sqs_managed_sse_enabled    = local.has_own_key ? null : true
  kms_master_key_id          = local.key_arn
  visibility_timeout_seconds = var.visibility_timeout
  message_retention_seconds  = 1209600
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[each.key].arn
    maxReceiveCount     = 3
  })
}

resource "aws_sqs_queue" "dead_letters" {
  for_each = local.functions

  name                      = "${var.name}-${each.key}-dead-letters"
  sqs_managed_sse_enabled   = local.has_own_key ? null : true
  kms_master_key_id         = local.key_arn
  message_retention_seconds = 1209600
}

locals {
  feeding = {
    for function in keys(local.functions) : function => concat(
      [aws_cloudwatch_event_rule.sweep.arn],
      [for key, rule in local.rules : aws_cloudwatch_event_rule.podgrant[key].arn if rule.function == function],
    )
  }
}

resource "aws_sqs_queue_policy" "podgrant" {
  for_each = local.functions

  queue_url = aws_sqs_queue.podgrant[each.key].url
  policy = templatefile("${path.module}/../policies/queue.json", {
    queue_arn = aws_sqs_queue.podgrant[each.key].arn
    rule_arns = jsonencode(local.feeding[each.key])
  })
}

resource "aws_sqs_queue_policy" "dead_letters" {
  for_each = local.functions

  queue_url = aws_sqs_queue.dead_letters[each.key].url
  policy = templatefile("${path.module}/../policies/dead-letters.json", {
    queue_arn = aws_sqs_queue.dead_letters[each.key].arn
    rule_arns = jsonencode(local.feeding[each.key])
  })
}

# Functions

resource "aws_cloudwatch_log_group" "podgrant" {
  # checkov:skip=CKV_AWS_338:log_retention_days says how long, 90 as shipped; CloudTrail is the longer record
  for_each = local.functions

  name              = "/podgrant/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arn
}

resource "aws_lambda_function" "podgrant" {
  # checkov:skip=CKV_AWS_50:one JSON line a message says what took how long; X-Ray would be a permission more
  # checkov:skip=CKV_AWS_115:maximum_concurrency bounds it; a reserved number would only throttle the queue's poller
  # checkov:skip=CKV_AWS_116:the queue has a dead-letter queue, and nothing invokes it asynchronously
  # checkov:skip=CKV_AWS_117:it speaks with AWS's own endpoints alone, which from a VPC takes a NAT gateway
  # checkov:skip=CKV_AWS_173:its variables hold no secret, and Lambda encrypts them with a key of its own
  # checkov:skip=CKV_AWS_272:who signs is the deployer's choice, and a signing profile is not made here
  for_each = local.functions

  function_name    = "${var.name}-${each.key}"
  description      = each.value
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  memory_size      = 128
  timeout          = var.function_timeout
  architectures    = [var.architecture]
  filename         = "${local.packages}/${each.key}/bootstrap.zip"
  source_code_hash = try(filebase64sha256("${local.packages}/${each.key}/bootstrap.zip"), null)
  role             = aws_iam_role.podgrant[each.key].arn

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.podgrant[each.key].name
  }

  environment {
    variables = {
      PODGRANT_REGIONS               = var.regions == "" ? local.region : var.regions
      PODGRANT_EVENT_BUS             = aws_cloudwatch_event_bus.podgrant.name
      PODGRANT_OWN_ROLES             = join(",", [for function in ["install-agent", "reconcile-associations", "clean-up-orphans"] : aws_iam_role.podgrant[function].arn])
      PODGRANT_TAG_PREFIX            = var.tag_prefix
      PODGRANT_AGENT_VERSION         = var.agent_version
      PODGRANT_AGENT_CONFIGURATION   = var.agent_configuration
      PODGRANT_KUBERNETES            = var.kubernetes
      PODGRANT_KUBERNETES_ROLE       = local.makes_access_entries && each.key != "clean-up-orphans" ? aws_iam_role.podgrant[each.key].arn : ""
      PODGRANT_REFUSED_NAMESPACES    = var.refused_namespaces
      PODGRANT_ROLE_PATHS            = var.role_paths
      PODGRANT_REFUSE_ADMINISTRATORS = var.refuse_administrators
      PODGRANT_MAX_SERVICE_ACCOUNTS  = var.max_service_accounts
      PODGRANT_REQUIRED_BOUNDARY     = var.required_boundary
      PODGRANT_ON_REFUSED            = var.on_refused
      PODGRANT_MAX_DELETIONS         = var.max_deletions
      PODGRANT_MAX_DELETION_SHARE    = var.max_deletion_share
      PODGRANT_DRY_RUN               = var.dry_run
      PODGRANT_RETRY_DELAY           = var.retry_delay
      PODGRANT_GIVE_UP_AFTER         = var.give_up_after
      PODGRANT_ORPHAN_GRACE          = var.orphan_grace
      PODGRANT_DELETE_ROLES          = var.delete_roles
      PODGRANT_MAX_ROLE_DELETIONS    = var.max_role_deletions
      PODGRANT_SWEEP_MINUTES         = var.sweep_minutes
      PODGRANT_DRIFT_ROUNDS          = var.drift_rounds
      PODGRANT_LOG                   = var.log_level
      PODGRANT_QUEUE_URL             = aws_sqs_queue.podgrant[each.key].url
    }
  }

  depends_on = [aws_iam_role_policy.podgrant]
}

resource "aws_lambda_event_source_mapping" "podgrant" {
  for_each = local.functions

  event_source_arn        = aws_sqs_queue.podgrant[each.key].arn
  function_name           = aws_lambda_function.podgrant[each.key].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
}

# Roles

resource "aws_iam_role" "podgrant" {
  for_each = local.functions

  name               = "${var.name}-${each.key}"
  path               = "/podgrant/"
  assume_role_policy = templatefile("${path.module}/../policies/trust.json", { service = "lambda.amazonaws.com" })
}

locals {
  # The policies of each role: its own, and those that options add.
  policies = merge(
    { for function in keys(local.functions) : function => { role = function, file = function } },
    {
      for name, policy in {
        access-entries                        = { when = local.makes_access_entries, role = "install-agent", file = "install-agent-access-entries" }
        reconcile-associations-access-entries = { when = local.makes_access_entries, role = "reconcile-associations", file = "reconcile-associations-access-entries" }
        delete-roles                          = { when = var.delete_roles == "on", role = "clean-up-orphans", file = "clean-up-orphans-delete-roles" }
      } : name => { role = policy.role, file = policy.file } if policy.when
    },
    { for function in keys(local.functions) : "use-the-key-${function}" => { role = function, file = "use-the-key" } if local.has_own_key },
  )
}

resource "aws_iam_role_policy" "podgrant" {
  for_each = local.policies

  name = each.key
  role = aws_iam_role.podgrant[each.value.role].name
  policy = templatefile("${path.module}/../policies/${each.value.file}.json", {
    partition                        = local.partition
    account                          = local.account
    region                           = local.region
    tag_prefix                       = var.tag_prefix
    grantable_roles                  = var.grantable_roles
    log_group_arn                    = "${aws_cloudwatch_log_group.podgrant[each.value.role].arn}:*"
    queue_arn                        = aws_sqs_queue.podgrant[each.value.role].arn
    bus_arn                          = aws_cloudwatch_event_bus.podgrant.arn
    key_arn                          = local.has_own_key ? local.key_arn : ""
    install_agent_role_arn           = aws_iam_role.podgrant["install-agent"].arn
    install_agent_role_name          = aws_iam_role.podgrant["install-agent"].name
    reconcile_associations_role_arn  = aws_iam_role.podgrant["reconcile-associations"].arn
    reconcile_associations_role_name = aws_iam_role.podgrant["reconcile-associations"].name
  })
}

# The key. Without the services in its policy, deliveries to queue and bus fail without a word.

resource "aws_kms_key" "podgrant" {
  count = local.has_own_key ? 1 : 0

  description         = "podgrant's queues, bus and logs"
  enable_key_rotation = true
  policy = templatefile("${path.module}/../policies/key.json", {
    partition  = local.partition
    account    = local.account
    region     = local.region
    dns_suffix = data.aws_partition.current.dns_suffix
    name       = var.name
    bus_name   = var.bus_name
  })
}

# Alarms and dashboard

locals {
  # A parameter's reference in alarms.yaml, as JSON, and what stands there for each function.
  alarm_values = {
    for function in keys(local.functions) : function => {
      "{\"Ref\":\"Function\"}"                   = jsonencode(function)
      "{\"Ref\":\"FunctionName\"}"               = jsonencode(aws_lambda_function.podgrant[function].function_name)
      "{\"Ref\":\"QueueName\"}"                  = jsonencode(aws_sqs_queue.podgrant[function].name)
      "{\"Ref\":\"DeadLettersName\"}"            = jsonencode(aws_sqs_queue.dead_letters[function].name)
      "{\"Ref\":\"SweepMinutes\"}"               = tostring(var.sweep_minutes)
      "{\"Ref\":\"VisibilityTimeout\"}"          = tostring(var.visibility_timeout)
      "{\"Fn::Sub\":\"$${FunctionTimeout}000\"}" = tostring(var.function_timeout * 1000)
    }
  }

  alarm_resources = yamldecode(file("${path.module}/../alarms.yaml")).Resources

  # By function and alarm, with only known values in the keys.
  alarms = {
    for pair in setproduct(keys(local.functions), keys(local.alarm_resources)) :
    "${pair[0]}-${pair[1]}" => { function = pair[0], properties = local.alarm_resources[pair[1]].Properties }
    if var.watch == "on"
  }
}

resource "aws_cloudwatch_metric_alarm" "podgrant" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.properties.AlarmDescription
  namespace           = each.value.properties.Namespace
  metric_name         = each.value.properties.MetricName
  dimensions          = { for d in each.value.properties.Dimensions : d.Name => jsondecode(local.alarm_values[each.value.function][jsonencode(d.Value)]) }
  statistic           = each.value.properties.Statistic
  period              = each.value.properties.Period
  evaluation_periods  = try(tonumber(each.value.properties.EvaluationPeriods), tonumber(local.alarm_values[each.value.function][jsonencode(each.value.properties.EvaluationPeriods)]))
  threshold           = try(tonumber(each.value.properties.Threshold), tonumber(local.alarm_values[each.value.function][jsonencode(each.value.properties.Threshold)]))
  comparison_operator = each.value.properties.ComparisonOperator
  treat_missing_data  = each.value.properties.TreatMissingData
  alarm_actions       = var.alarm_topic_arn != "" && can(each.value.properties.AlarmActions) ? [var.alarm_topic_arn] : []
  ok_actions          = var.alarm_topic_arn != "" && can(each.value.properties.OKActions) ? [var.alarm_topic_arn] : []
}

resource "aws_cloudwatch_dashboard" "podgrant" {
  count = var.watch == "on" ? 1 : 0

  dashboard_name = var.name
  dashboard_body = templatefile("${path.module}/../dashboard.json", merge({ region = local.region }, [
    for function in keys(local.functions) : {
      "${replace(function, "-", "_")}_function"     = aws_lambda_function.podgrant[function].function_name
      "${replace(function, "-", "_")}_queue"        = aws_sqs_queue.podgrant[function].name
      "${replace(function, "-", "_")}_dead_letters" = aws_sqs_queue.dead_letters[function].name
    }
  ]...))
}
