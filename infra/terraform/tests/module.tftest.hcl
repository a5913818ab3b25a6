# Applied against a provider that makes nothing: what the module would make of its files and variables.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }
  mock_data "aws_region" {
    defaults = { name = "cn-north-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws-cn:iam::111122223333:role/podgrant/role" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws-cn:sqs:cn-north-1:111122223333:queue" }
  }
  mock_resource "aws_cloudwatch_event_bus" {
    defaults = { arn = "arn:aws-cn:events:cn-north-1:111122223333:event-bus/podgrant" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws-cn:events:cn-north-1:111122223333:rule/podgrant/rule" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws-cn:logs:cn-north-1:111122223333:log-group:/podgrant/podgrant/function" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws-cn:lambda:cn-north-1:111122223333:function:podgrant" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws-cn:kms:cn-north-1:111122223333:key/00000000-0000-0000-0000-000000000000" }
  }
}

run "as_shipped" {
  command = apply

  assert {
    condition     = toset(keys(aws_iam_role_policy.podgrant)) == toset(["install-agent", "reconcile-associations", "clean-up-orphans", "access-entries", "reconcile-associations-access-entries"])
    error_message = "As shipped nobody may delete roles, and there is no key."
  }
  assert {
    condition     = length(aws_kms_key.podgrant) == 0 && alltrue([for queue in aws_sqs_queue.podgrant : queue.sqs_managed_sse_enabled])
    error_message = "As shipped AWS's own key encrypts queues."
  }
  assert {
    condition     = length(aws_cloudwatch_event_rule.podgrant) == 12
    error_message = "A rule for each pattern of a function."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.podgrant) == 30 && length(aws_cloudwatch_dashboard.podgrant) == 1
    error_message = "Ten alarms for each function, and a dashboard."
  }
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.podgrant["clean-up-orphans-SweepOverdue"].evaluation_periods == 60 &&
      aws_cloudwatch_metric_alarm.podgrant["clean-up-orphans-SweepOverdue"].dimensions == tomap({ function = "clean-up-orphans" }) &&
      aws_cloudwatch_metric_alarm.podgrant["install-agent-CutOff"].threshold == 300000 &&
      aws_cloudwatch_metric_alarm.podgrant["install-agent-OldestMessage"].threshold == 1800 &&
      aws_cloudwatch_metric_alarm.podgrant["install-agent-OldestMessage"].dimensions == tomap({ QueueName = "podgrant-install-agent" }) &&
      aws_cloudwatch_metric_alarm.podgrant["install-agent-DeadLetters"].dimensions == tomap({ QueueName = "podgrant-install-agent-dead-letters" })
    )
    error_message = "The parameters of alarms.yaml are filled."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.podgrant : length(coalesce(alarm.alarm_actions, [])) == 0])
    error_message = "Without a topic alarms tell nobody."
  }
}

run "with_every_option" {
  command = apply

  variables {
    encryption      = "customer"
    delete_roles    = "on"
    kubernetes      = "off"
    tag_prefix      = "acme/"
    grantable_roles = "pods/*"
    sweep_minutes   = 480
    alarm_topic_arn = "arn:aws-cn:sns:cn-north-1:111122223333:alarms"
  }

  assert {
    condition     = contains(keys(aws_iam_role_policy.podgrant), "delete-roles") && !contains(keys(aws_iam_role_policy.podgrant), "access-entries") && !contains(keys(aws_iam_role_policy.podgrant), "reconcile-associations-access-entries")
    error_message = "Options add and take policies."
  }
  assert {
    condition = alltrue([
      for policy in aws_iam_role_policy.podgrant :
      !strcontains(policy.policy, "podgrant/orphaned-since") && !strcontains(policy.policy, "podgrant/managed") && !strcontains(policy.policy, "arn:aws:")
    ])
    error_message = "Another prefix and another partition are in every policy."
  }
  assert {
    condition     = !strcontains(aws_cloudwatch_event_rule.podgrant["reconcile-associations-role-tagged"].event_pattern, "podgrant/")
    error_message = "Another prefix is in the patterns."
  }
  assert {
    condition     = alltrue([for queue in aws_sqs_queue.dead_letters : queue.kms_master_key_id == aws_kms_key.podgrant[0].arn])
    error_message = "Dead letters are encrypted with the own key, too."
  }
  assert {
    condition = alltrue([
      for name, alarm in aws_cloudwatch_metric_alarm.podgrant :
      length(coalesce(alarm.alarm_actions, [])) == (endswith(name, "-Refusals") ? 0 : 1)
    ])
    error_message = "Every alarm but that of refusals goes to the topic."
  }
}

run "unwatched" {
  command = plan

  variables {
    watch = "off"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.podgrant) + length(aws_cloudwatch_dashboard.podgrant) == 0
    error_message = "Watch=off makes neither alarms nor dashboard."
  }
}

run "too_seldom" {
  command = plan

  variables {
    sweep_minutes = 481
  }

  expect_failures = [var.sweep_minutes]
}
